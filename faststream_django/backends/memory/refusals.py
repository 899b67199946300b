"""What the embedded broker refuses, with the codes and texts of RabbitMQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ServerRefused", "refuse_expiry", "refuse_no_list", "refuse_other"]

UNSIGNED_32_BITS = 2**32 - 1


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


def refuse_expiry(queue: str, arguments: Mapping[str, Any]) -> None:
    """Refuse an ``x-expires`` that is no number of milliseconds above 0."""
    milliseconds = arguments.get("x-expires", 1)
    if type(milliseconds) is not int or not 0 < milliseconds <= UNSIGNED_32_BITS:
        raise ServerRefused(
            406,
            f"PRECONDITION_FAILED - invalid arg 'x-expires' for queue '{queue}' in vhost '/':"
            f" {_shown(milliseconds)} is no number of milliseconds from 1 to {UNSIGNED_32_BITS}",
        )


def refuse_no_list(headers: Mapping[str, Any]) -> None:
    """Refuse copies to what is no list of routing keys."""
    for name in ("CC", "BCC"):
        if not isinstance(headers.get(name, []), list):
            raise ServerRefused(
                406,
                "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"
                f'"{name}",{type(headers[name]).__name__}}}',
            )


def _shown(value: object) -> str:
    return "none" if value is None else f"'{str(value).lower()}'"
