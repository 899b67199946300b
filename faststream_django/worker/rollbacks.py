"""Transactions that end in a rollback without any error: a message would be acked for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

__all__ = ["no_silent_rollback"]

_PSYCOPG_IN_ERROR = 3
_MYSQL_DEADLOCK = 1213


@contextmanager
def no_silent_rollback(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Raise TransactionManagementError at the end if what was done in the transaction cannot be committed.

    Django ends a block in silence after an error that was caught within it, and so does the database:
    PostgreSQL answers the COMMIT of a failed transaction with a ROLLBACK.
    """
    deadlocks: list[Exception] = []
    if connection.vendor == "mysql":
        with connection.execute_wrapper(partial(_watch, deadlocks)):
            yield
    else:
        yield
    reason = "a deadlock was caught in it" if deadlocks else _reason(connection)
    if reason is not None:
        raise TransactionManagementError(
            f"What the handler did in the database {connection.alias!r} cannot be committed: {reason}. Let "
            "the error fail the message, or catch it around a transaction.atomic() of its own."
        )


def _watch(deadlocks: list[Exception], execute: Any, *args: Any) -> Any:
    try:
        return execute(*args)
    except OperationalError as error:
        if error.args[:1] == (_MYSQL_DEADLOCK,):
            deadlocks.append(error)
        raise


def _reason(connection: BaseDatabaseWrapper) -> str | None:
    if connection.closed_in_transaction or connection.connection is None:
        return "the connection was closed"
    if connection.needs_rollback:
        return "an error was caught in the transaction, or it was marked for rollback"
    driver: Any = connection.connection
    if connection.vendor == "postgresql" and driver.info.transaction_status == _PSYCOPG_IN_ERROR:
        return "an error was caught in the transaction"
    if connection.vendor == "sqlite" and not driver.in_transaction:
        return "SQLite has rolled it back"
    return None
