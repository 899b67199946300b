"""Which handlers of the installed apps are idempotent."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import DatabaseError, connections
from django.utils.module_loading import module_has_submodule

from faststream_django.inbox.idempotence import Inbox
from faststream_django.inbox.tables import refuse_unready
from faststream_django.worker.discovery import autodiscover
from faststream_django.worker.options import handler_options
from faststream_django.worker.source import queue_name

if TYPE_CHECKING:
    from faststream.rabbit import RabbitRouter

__all__ = ["Use", "installed_uses", "refuse_unready_uses", "uses_in"]

logger = logging.getLogger("faststream_django.inbox")


@dataclass(frozen=True, slots=True)
class Use:
    """An idempotent handler."""

    handler: str
    using: str
    publishes: bool
    """Whether what it returns is published."""


def installed_uses() -> list[Use]:
    """Return the idempotent handlers of the installed apps, whose subscribers are imported."""
    if not any(module_has_submodule(app.module, "subscribers") for app in apps.get_app_configs()):
        return []  # without the import of FastStream
    return uses_in(router for routers in autodiscover().values() for router in routers)


def refuse_unready_uses(routers: Iterable[RabbitRouter], queues: Collection[str]) -> None:
    """Raise InboxNotReady if an idempotent handler of these queues has nowhere to record its messages.

    A database that is away proves nothing: the worker starts, and messages are tried again.
    """
    for using in sorted({use.using for use in uses_in(routers, queues)}):
        try:
            refuse_unready(using)
        except DatabaseError as error:
            logger.warning("database=%s state=away error=%s", using, type(error).__name__)
        else:
            if not connections[
                using
            ].in_atomic_block:  # the threads of handlers have connections of their own
                connections[using].close()


def uses_in(routers: Iterable[RabbitRouter], queues: Collection[str] | None = None) -> list[Use]:
    """Return the idempotent handlers of the routers, each once; with `queues`, those of these queues."""
    subscribers: list[Any] = [each for router in routers for each in router.subscribers]
    return list(
        dict.fromkeys(
            Use(scope.handler, scope.using, bool(call.handler._publishers))  # noqa: SLF001
            for subscriber in subscribers
            if queues is None or queue_name(subscriber) in queues
            for call in subscriber.calls
            for scope in handler_options(call.handler).scopes
            if isinstance(scope, Inbox)
        )
    )
