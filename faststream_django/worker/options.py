"""What the decorators of the worker note on a handler, for the worker that runs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faststream.rabbit import RabbitMessage

__all__ = [
    "HandlerOptions",
    "RetryPolicy",
    "Scope",
    "add_scope",
    "as_written",
    "change_options",
    "handler_options",
]

_ATTRIBUTE = "_faststream_django_options"

Scope = Callable[["RabbitMessage"], AbstractContextManager[Any]]
"""Makes what surrounds a handler and its dependencies, in the thread that runs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a message whose handler failed is handled again; None: as the settings say."""

    attempts: int | None = None
    """How often it is handled in all; 1: never again."""
    backoff: tuple[float, float] | None = None
    """Seconds until the second attempt, and at most; it doubles in between."""
    on: tuple[type[Exception], ...] = (Exception,)
    """What is worth another attempt; anything else is a dead letter at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerOptions:
    """What was asked for one handler."""

    retry: RetryPolicy | None = None
    """When a message that fails is handled again; None: as the settings say."""
    scopes: tuple[Scope, ...] = ()
    """What surrounds the handler, the outermost first."""


def handler_options(handler: Callable[..., Any]) -> HandlerOptions:
    """Return the options of a handler, as written or as FastStream wraps it."""
    return getattr(as_written(handler), _ATTRIBUTE, None) or HandlerOptions()


def change_options(handler: Callable[..., Any], **changes: Any) -> None:
    """Note options on a handler; it may be FastStream's already, as above its ``@subscriber``."""
    setattr(as_written(handler), _ATTRIBUTE, replace(handler_options(handler), **changes))


def add_scope(handler: Callable[..., Any], scope: Scope) -> None:
    """Put a scope around those that are there; one that says `is_outermost` stays around all others."""
    scopes = (scope, *handler_options(handler).scopes)
    change_options(
        handler, scopes=tuple(sorted(scopes, key=lambda each: not getattr(each, "is_outermost", False)))
    )


def as_written(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler that was decorated, which FastStream may have wrapped since."""
    from faststream._internal.endpoint.call_wrapper import HandlerCallWrapper

    if isinstance(handler, HandlerCallWrapper):
        return handler._declared_call  # noqa: SLF001
    return handler
