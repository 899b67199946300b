"""What the SQL of the outbox needs to know of each database engine."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from faststream_django.exceptions import OutboxNotReady

__all__ = ["clock", "has_returning", "inserted", "later_of"]

# Seconds since the epoch by the clock of the database, the same throughout one statement.
_CLOCKS = {
    "postgresql": "extract(epoch from statement_timestamp())::double precision",
    "mysql": "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6)",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
}


def clock(connection: BaseDatabaseWrapper) -> str:
    """Return the SQL for the moment of the statement; raise OutboxNotReady for an unknown engine."""
    try:
        return _CLOCKS[connection.vendor]
    except KeyError:
        raise OutboxNotReady(
            f"The outbox does not know the engine of database {connection.alias!r} ({connection.vendor}): "
            "use PostgreSQL, MySQL, MariaDB or SQLite for the messages."
        ) from None


def later_of(connection: BaseDatabaseWrapper, first: str, second: str) -> str:
    """Return the SQL for the greater of two numbers."""
    return f"{'max' if connection.vendor == 'sqlite' else 'greatest'}({first}, {second})"


def has_returning(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether an INSERT can return the ids of its rows: not on MySQL, but on MariaDB."""
    return bool(connection.features.can_return_rows_from_bulk_insert)


def inserted(
    connection: BaseDatabaseWrapper, cursor: CursorWrapper, sql: str, parameters: list[Any], count: int
) -> list[int]:
    """Run an INSERT of so many rows and return their ids, in the order of the rows."""
    if has_returning(connection):
        cursor.execute(f"{sql} RETURNING {connection.ops.quote_name('id')}", parameters)
        # In any order, as far as the standards go; they were given out in that of the rows.
        return sorted(row_id for (row_id,) in cursor.fetchall())
    cursor.execute(sql, parameters)
    if connection.vendor == "sqlite":  # before 3.35; the id is that of the last row
        return list(range(cursor.lastrowid - count + 1, cursor.lastrowid + 1))
    first = cursor.lastrowid
    if count == 1:
        return [first]
    cursor.execute("SELECT @@auto_increment_increment")
    step = cursor.fetchone()[0]
    return [first + number * step for number in range(count)]
