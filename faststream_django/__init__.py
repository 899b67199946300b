"""Publish to a message broker from Django: persistent, confirmed, fork-safe, bounded in time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faststream_django.messages.message import Message
    from faststream_django.publishing.after_commit import (
        apublish_many_on_commit,
        apublish_on_commit,
        publish_many_on_commit,
        publish_on_commit,
    )
    from faststream_django.publishing.requesting import arequest, request
    from faststream_django.publishing.verbs import apublish, apublish_many, publish, publish_many
    from faststream_django.registry import brokers

__all__ = [
    "Message",
    "apublish",
    "apublish_many",
    "apublish_many_on_commit",
    "apublish_on_commit",
    "arequest",
    "brokers",
    "publish",
    "publish_many",
    "publish_many_on_commit",
    "publish_on_commit",
    "request",
]

__version__ = "0.1.0"

_MODULES = {
    "Message": "messages.message",
    "brokers": "registry",
    **dict.fromkeys(("apublish", "apublish_many", "publish", "publish_many"), "publishing.verbs"),
    **dict.fromkeys(("arequest", "request"), "publishing.requesting"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the import of the package costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'publishing.after_commit')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
