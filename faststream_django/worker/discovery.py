"""Finds the subscribers: ``<app>/subscribers.py`` of every installed app, with routers for each broker."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import BrokerDoesNotExist, InvalidSubscriber

if TYPE_CHECKING:
    from faststream.rabbit import RabbitRouter


__all__ = ["autodiscover", "broker_router"]

_ALIAS = "_faststream_django_alias"


def broker_router(broker: str, *args: Any, **options: Any) -> RabbitRouter:
    """Return FastStream's RabbitRouter, with subscribers that consume from the broker of this alias.

    The subscribers of a plain RabbitRouter consume from ``default``. The arguments are RabbitRouter's.
    """
    from faststream.rabbit import RabbitRouter

    router = RabbitRouter(*args, **options)
    setattr(router, _ALIAS, broker)
    return router


def autodiscover() -> dict[str, list[RabbitRouter]]:
    """Import ``subscribers`` of every installed app; return the routers at module level by alias, in order.

    A router that is included in another one comes with that one. Whatever a module raises when it
    is imported is raised here; InvalidSubscriber for a router of an alias that does not exist.
    """
    from faststream.rabbit import RabbitRouter

    found: dict[str, list[RabbitRouter]] = {}
    for app in apps.get_app_configs():
        if not module_has_submodule(app.module, "subscribers"):
            continue
        module = import_module(f"{app.name}.subscribers")
        for name, value in vars(module).items():
            if not isinstance(value, RabbitRouter) or isinstance(value.parent, RabbitRouter):
                continue
            alias = _alias(value)
            _verify(value, alias, f"{module.__name__}.{name}")
            routers = found.setdefault(alias, [])
            if value not in routers:
                routers.append(value)
    return found


def _alias(router: RabbitRouter) -> str:
    return getattr(router, _ALIAS, "default")


def _verify(router: RabbitRouter, alias: str, place: str) -> None:
    if hasattr(router, _ALIAS):
        try:
            broker_settings(alias)
        except BrokerDoesNotExist as error:
            raise InvalidSubscriber(f"{place}: {error}") from None
    for included in _included(router):
        if _alias(included) != alias:
            raise InvalidSubscriber(
                f"{place} is a router of broker {alias!r}, and includes one of broker {_alias(included)!r}: "
                "leave that one at module level, where it is found too"
            )


def _included(router: RabbitRouter) -> list[RabbitRouter]:
    return [each for child in router.routers for each in (child, *_included(child))]  # type: ignore[misc, arg-type]
