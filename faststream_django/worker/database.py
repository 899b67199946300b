"""Django's database connections in the threads of the worker."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connections
from django.db.backends.signals import connection_created
from django.db.transaction import TransactionManagementError

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "KEPT_AT_MOST",
    "Cleaned",
    "clean_up",
    "close_all",
    "close_broken",
    "transaction_left_open",
    "watch_connections",
]

logger = logging.getLogger("faststream_django.worker")

KEPT_AT_MOST = 10.0
"""Seconds that a connection of ``CONN_MAX_AGE = 0`` is used by one message after the other.

Who sets it to 0 expects a worker to find the new server soon after a failover.
"""


class Cleaned(NamedTuple):
    """What is left in this thread."""

    due: float | None = None
    """When a connection has to be closed, as time.monotonic() tells it; None: none has to be."""
    error: TransactionManagementError | None = None
    """A transaction was left open; it is rolled back."""


class _Thread(threading.local):
    has_connected = False
    """Whether a connection of this thread may be open. To ask Django costs a third of a hop to a thread."""


_thread = _Thread()


def watch_connections() -> None:
    """Take notice of the connections that threads open, for clean_up()."""
    connection_created.connect(_connected, dispatch_uid="faststream_django.worker")


def _connected(**_kwargs: Any) -> None:
    _thread.has_connected = True


def clean_up(linger: float = 0.0, *, is_suspicious: bool = False) -> Cleaned:
    """Close this thread's connections that are broken or too old, as Django does around a request.

    One of ``CONN_MAX_AGE = 0`` may linger for so many seconds, unless a pool waits for it. One in a
    transaction is always closed: in the worker a transaction ends with the function that began it.
    Where nothing has connected nothing is looked at, unless it is suspicious: a function that raised may
    have failed to connect, halfway.
    """
    if not (_thread.has_connected or is_suspicious):
        return Cleaned()
    _thread.has_connected = False
    due: float | None = None
    error = None
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.in_atomic_block:
            error = _left_open(connection)
            _discard(connection)
            continue
        closes_at = _close_if_due(connection, linger)
        if closes_at is not None and (due is None or closes_at < due):
            due = closes_at
        _thread.has_connected |= connection.connection is not None
    return Cleaned(due, error)


def transaction_left_open() -> TransactionManagementError | None:
    """Return the error of a function that would end now, if it left a transaction open in this thread."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            return _left_open(connection)
    return None


def close_broken() -> None:
    """Close this thread's connections that are broken; leave alone those that are in use by others."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            _close_if(connection, is_old=False)


def close_all() -> None:
    """Close all connections of this thread, which ends."""
    for connection in connections.all(initialized_only=True):
        _discard(connection)


def _left_open(connection: BaseDatabaseWrapper) -> TransactionManagementError:
    return TransactionManagementError(
        f"A transaction was left open on the database {connection.alias!r}, and is rolled back: leave "
        "transaction.atomic() in the function that entered it. A def dependency of an async handler cannot "
        "yield within it."
    )


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
