"""Finds the subscribers: ``<app>/subscribers.py`` of every installed app."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from django.apps import apps
from django.utils.module_loading import module_has_submodule

if TYPE_CHECKING:
    from faststream.rabbit import RabbitRouter


__all__ = ["autodiscover"]


def autodiscover() -> list[RabbitRouter]:
    """Import ``subscribers`` of every installed app; return the routers at module level, in order.

    A router that is included in another one comes with that one. Whatever a module raises when it
    is imported is raised here.
    """
    from faststream.rabbit import RabbitRouter

    found: dict[int, RabbitRouter] = {}
    for app in apps.get_app_configs():
        if not module_has_submodule(app.module, "subscribers"):
            continue
        module = import_module(f"{app.name}.subscribers")
        for value in vars(module).values():
            if isinstance(value, RabbitRouter) and not isinstance(value.parent, RabbitRouter):
                found.setdefault(id(value), value)
    return list(found.values())
