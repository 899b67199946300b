"""``@idempotent``: a message is handled once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

from faststream_django.inbox.keys import Key, digest, key_of
from faststream_django.inbox.recording import is_conflict, record, statement
from faststream_django.worker.options import (
    Scope,
    add_scope,
    as_written,
    change_options,
    handler_options,
)
from faststream_django.worker.source import source_queue
from faststream_django.worker.transactions import Transaction

if TYPE_CHECKING:
    from faststream.rabbit import RabbitMessage

__all__ = ["Inbox", "idempotent"]

logger = logging.getLogger("faststream_django.inbox")

Handler = TypeVar("Handler", bound=Callable[..., Any])


@overload
def idempotent(handler: Handler, /) -> Handler: ...


@overload
def idempotent(
    *, using: str = ..., key: Key | str | None = ..., consumer: str | None = ...
) -> Callable[[Handler], Handler]: ...


def idempotent(
    handler: Callable[..., Any] | None = None,
    /,
    *,
    using: str = DEFAULT_DB_ALIAS,
    key: Key | str | None = None,
    consumer: str | None = None,
) -> Callable[..., Any]:
    """Have a `def` handler handle each message once: what it writes to the database is written once.

    The message id is recorded in the transaction in which the handler runs: that of @transaction, or else
    one that begins here. A message that was recorded before is acknowledged, and the handler does not run;
    one whose handler failed was rolled back with its record, and is handled again.

    `using` is the alias of the database. `key` is the name of a header, or a function of FastStream's
    message, whose value identifies a message in place of its id; one without any raises MessageHasNoId.
    `consumer` names who handles it, by default the queue and the handler: another name is another consumer.
    """
    if not (handler is None or callable(handler)):
        raise TypeError(f"@idempotent takes its arguments by name: write @idempotent(using={handler!r}).")
    _refuse_blank(using=using or "", consumer=consumer, key="callable" if callable(key) else key)

    def decorate(handler: Handler) -> Handler:
        scopes = handler_options(handler).scopes
        name = _refuse_handler(handler, scopes, consumer)
        change_options(handler, scopes=tuple(each for each in scopes if each != Transaction(using)))
        add_scope(handler, Inbox(using, key, consumer, name))
        return handler

    return decorate if handler is None else decorate(handler)


@dataclass(frozen=True, slots=True)
class Inbox:
    """The scope of an idempotent handler: a transaction that begins with a record."""

    # A transaction of another database must have committed before this one says that the message is handled.
    is_outermost: ClassVar = True

    using: str
    key: Key | str | None
    consumer: str | None
    handler: str
    """What stands for the handler in the name of the consumer."""

    @contextmanager
    def __call__(self, message: RabbitMessage) -> Iterator[None]:
        """Record the message in a transaction, or leave it alone if it was recorded before."""
        from faststream.exceptions import AckMessage

        key = key_of(message, self.key)
        consumer = self.consumer or f"{source_queue()} {self.handler}"
        connection = connections[self.using]
        sql = statement(connection)
        has_begun = is_second_try = False
        while True:
            try:
                with Transaction(self.using)(message):
                    if not record(connection, sql, digest(consumer, key)):
                        logger.info("consumer=%r message_id=%s state=handled", consumer, message.message_id)
                        raise AckMessage
                    has_begun = True
                    yield
                    return
            except OperationalError as error:
                # Another transaction has recorded it meanwhile, or was about to; a new one can tell.
                if has_begun or is_second_try or not is_conflict(error):
                    raise
                is_second_try = True


def _refuse_handler(handler: Callable[..., Any], scopes: tuple[Scope, ...], consumer: str | None) -> str:
    """Refuse what cannot be idempotent; return the name of the handler."""
    from fast_depends.utils import is_coroutine_callable

    written = as_written(handler)
    name = getattr(written, "__qualname__", "")
    if is_coroutine_callable(written):
        raise TypeError(
            f"@idempotent needs a transaction around {name}(), and async code cannot have one. Make it a "
            "def: it runs in a thread of the worker, where Django's ORM works as in a view."
        )
    if any(isinstance(scope, Inbox) for scope in scopes):
        raise TypeError(
            f"{name}() is @idempotent twice: the second one would take every message for an old one."
        )
    if consumer is None and (not name or "<lambda>" in name):
        raise TypeError(
            f"{written!r} has no name of its own that its messages can be recorded under: pass "
            "@idempotent(consumer='...')."
        )
    return f"{written.__module__}.{name}"


def _refuse_blank(**names: Any) -> None:
    for name, value in names.items():
        if value is not None and (value == "" or not isinstance(value, str)):
            raise TypeError(f"@idempotent({name}=...) must be a name, not {value!r}.")
