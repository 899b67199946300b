"""Which handlers of the installed apps are idempotent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from faststream_django.inbox.idempotence import Inbox
from faststream_django.worker.discovery import autodiscover
from faststream_django.worker.options import handler_options

if TYPE_CHECKING:
    from faststream.rabbit import RabbitRouter

__all__ = ["Use", "installed_uses", "uses_in"]


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
