"""Which handlers of the installed apps are idempotent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faststream_django.inbox.idempotence import Inbox
from faststream_django.worker.options import handler_options

if TYPE_CHECKING:
    from faststream.rabbit import RabbitRouter

__all__ = ["Use", "uses_in"]


@dataclass(frozen=True, slots=True)
class Use:
    """An idempotent handler."""

    handler: str
    using: str
    publishes: bool
    """Whether what it returns is published."""


def uses_in(routers: Iterable[RabbitRouter]) -> list[Use]:
    """Return the idempotent handlers of the routers, each once."""
    return list(
        dict.fromkeys(
            Use(scope.handler, scope.using, bool(call.handler._publishers))  # noqa: SLF001
            for router in routers
            for subscriber in router.subscribers
            for call in subscriber.calls
            for scope in handler_options(call.handler).scopes
            if isinstance(scope, Inbox)
        )
    )
