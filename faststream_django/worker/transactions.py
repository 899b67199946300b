"""Handlers in a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import atomic

from faststream_django.worker.options import add_scope, as_written, handler_options
from faststream_django.worker.rollbacks import no_silent_rollback

if TYPE_CHECKING:
    from faststream.rabbit import RabbitMessage

__all__ = ["Transaction", "transaction"]

Handler = TypeVar("Handler", bound=Callable[..., Any])


@overload
def transaction(handler: Handler, /) -> Handler: ...


@overload
def transaction(*, using: str = DEFAULT_DB_ALIAS) -> Callable[[Handler], Handler]: ...


def transaction(
    handler: Handler | None = None, /, *, using: str = DEFAULT_DB_ALIAS
) -> Handler | Callable[[Handler], Handler]:
    """Run a `def` handler and its dependencies in a transaction, which is committed before the ack.

    If one of them raises, all is rolled back and the message fails; but `AckMessage`, which has the message
    acked, commits. What is `async def` among the dependencies is no part of the transaction. Only a worker
    begins one: who calls the function gets the function.

    Raise TypeError for an `async def` handler, ImproperlyConfigured if there is no such database.
    """
    if not (handler is None or callable(handler)):
        raise TypeError(f"@transaction takes its argument by name: write @transaction(using={handler!r}).")
    if using not in connections.settings:
        raise ImproperlyConfigured(
            f"@transaction(using={using!r}): DATABASES has only {', '.join(connections.settings)}."
        )

    def decorate(handler: Handler) -> Handler:
        _refuse_async(as_written(handler))
        # One transaction for a database: that of @idempotent does for both.
        if not any(getattr(scope, "using", None) == using for scope in handler_options(handler).scopes):
            add_scope(handler, Transaction(using))
        return handler

    return decorate if handler is None else decorate(handler)


@dataclass(frozen=True, slots=True)
class Transaction:
    """The scope of a handler that runs in a transaction."""

    using: str

    @contextmanager
    def __call__(self, message: RabbitMessage) -> Iterator[None]:  # noqa: ARG002
        from faststream.exceptions import AckMessage

        with atomic(self.using), no_silent_rollback(connections[self.using]):
            try:
                yield
            except AckMessage as error:
                acknowledged = error
            else:
                return
        raise acknowledged


def _refuse_async(handler: Callable[..., Any]) -> None:
    from fast_depends.utils import is_coroutine_callable

    if is_coroutine_callable(handler):
        raise TypeError(
            f"@transaction: {getattr(handler, '__qualname__', repr(handler))}() is async, and a transaction "
            "of Django's belongs to one thread. Make it a def, which the worker runs in a thread; or move "
            "what belongs together into a function with transaction.atomic(), and await "
            "sync_to_async(function)()."
        )
