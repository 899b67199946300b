"""Django's database connections in the threads of the worker."""

from __future__ import annotations

import logging
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections, connections
from django.db.transaction import TransactionManagementError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["KEPT_AT_MOST", "Cleaned", "clean_up", "clean_up_around", "close_all", "close_broken"]

logger = logging.getLogger("faststream_django.worker")

KEPT_AT_MOST = 10.0
"""Seconds that a connection of ``CONN_MAX_AGE = 0`` is used by one message after the other.

Who sets it to 0 expects a worker to find the new server soon after a failover.
"""


class Cleaned(NamedTuple):
    """What is left in this thread."""

    due: float | None
    """When a connection has to be closed, as time.monotonic() tells it; None: none has to be."""
    error: TransactionManagementError | None = None
    """A transaction was left open; it is rolled back."""


def clean_up(linger: float = 0.0) -> Cleaned:
    """Close this thread's connections that are broken or too old, as Django does around a request.

    One of ``CONN_MAX_AGE = 0`` may linger for so many seconds, unless a pool waits for it. One in a
    transaction is always closed: in the worker a transaction ends with the function that began it.
    """
    due: float | None = None
    error = None
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.in_atomic_block:
            _discard(connection)
            error = TransactionManagementError(
                f"A transaction was left open on the database {connection.alias!r}, and is rolled back: "
                "leave transaction.atomic() in the function that entered it. A def dependency of an async "
                "handler cannot yield within it."
            )
            continue
        closes_at = _close_if_due(connection, linger)
        if closes_at is not None and (due is None or closes_at < due):
            due = closes_at
    return Cleaned(due, error)


def close_broken() -> None:
    """Close this thread's connections that are broken; leave alone those that are in use by others."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            _close_if(connection, is_old=False)


def close_all() -> None:
    """Close all connections of this thread, which ends."""
    for connection in connections.all(initialized_only=True):
        _discard(connection)


def _close_if_due(connection: BaseDatabaseWrapper, linger: float) -> float | None:
    """Return when the connection has to be closed, if it is still open."""
    closes_at: float | None = connection.close_at
    now = time.monotonic()
    lingers = (
        linger > 0
        and closes_at is not None
        and now < closes_at + KEPT_AT_MOST
        and connection.settings_dict["CONN_MAX_AGE"] == 0
        and not connection.settings_dict["OPTIONS"].get("pool")
    )
    _close_if(connection, is_old=not lingers)
    if connection.connection is None:
        return None
    return now + linger if lingers else closes_at


def _close_if(connection: BaseDatabaseWrapper, *, is_old: bool) -> None:
    """Close the connection if it is broken, or if it is old and that matters."""
    closes_at = connection.close_at
    if not is_old:
        connection.close_at = None
    try:
        connection.close_if_unusable_or_obsolete()
    except Exception:
        logger.exception("database=%s state=abandoned", connection.alias)
        _discard(connection)
    connection.close_at = closes_at


def _discard(connection: BaseDatabaseWrapper) -> None:
    """Close the connection, and have the next use of its alias begin with a new one."""
    try:
        connection.close()
    except Exception:
        logger.exception("database=%s state=abandoned", connection.alias)
    del connections[connection.alias]


def clean_up_around(orm_thread: ThreadSensitiveContext, handler: Callable[..., Any]) -> Callable[..., Any]:
    """Close Django's stale connections around the handler, in the thread that uses them.

    What a request does with its signals. A connection inside an atomic block is left alone.
    """
    from fast_depends.utils import is_coroutine_callable

    if is_coroutine_callable(handler):
        return _clean_up_async(orm_thread, handler)

    @wraps(handler)
    def run(*args: Any, **kwargs: Any) -> Any:
        close_old_connections()
        try:
            return handler(*args, **kwargs)
        finally:
            close_old_connections()

    return run


def _clean_up_async(
    orm_thread: ThreadSensitiveContext, handler: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def clean_up() -> None:
        # No thread yet: no handler has used the ORM, and a hop to a thread costs more than most messages.
        if orm_thread in SyncToAsync.context_to_thread_executor:
            await sync_to_async(close_old_connections)()

    @wraps(handler)
    async def run(*args: Any, **kwargs: Any) -> Any:
        # The ORM of all async handlers runs in one thread, as asgiref does it, but not in asgiref's
        # common one: that belongs to the views, and a forked child waits for it for ever.
        token = SyncToAsync.thread_sensitive_context.set(orm_thread)
        try:
            await clean_up()
            try:
                result = await handler(*args, **kwargs)
            except Exception:
                await clean_up()
                raise
            await clean_up()  # not after a cancellation: the process may be ending, without threads
            return result
        finally:
            SyncToAsync.thread_sensitive_context.reset(token)

    return run
