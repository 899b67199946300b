"""What the embedded broker refuses, with the codes and texts of RabbitMQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ServerRefused", "refuse_other"]


class ServerRefused(Exception):
    """The server refuses an operation; code and text are RabbitMQ's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def refuse_other(kind: str, name: str, wanted: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse a declaration that differs from what is there."""
    for key in sorted({*wanted, *current}):
        if wanted.get(key) != current.get(key):
            raise ServerRefused(
                406,
                f"PRECONDITION_FAILED - inequivalent arg '{key}' for {kind} '{name}' in vhost '/':"
                f" received {_shown(wanted.get(key))} but current is {_shown(current.get(key))}",
            )


def _shown(value: object) -> str:
    return "none" if value is None else f"'{str(value).lower()}'"
