"""The one statement: it records a message, or tells that it was recorded before."""

from __future__ import annotations

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.inbox.fields import for_driver
from faststream_django.inbox.tables import now_in, refuse_unready

__all__ = ["is_conflict", "record", "statement"]

_CONFLICTS = {"40001", 1213, 1020}
"""A serialization failure in PostgreSQL's words and in MariaDB's, and MySQL's deadlock."""

_statements: dict[tuple[str, str], str] = {}
"""The statement for each database whose table was seen, by alias and name."""


def statement(connection: BaseDatabaseWrapper) -> str:
    """Return the statement that records a message; raise InboxNotReady for a database that cannot.

    It is asked for before, or the statement would fail in a transaction of the caller.
    """
    key = (connection.alias, str(connection.settings_dict["NAME"]))
    if key not in _statements:
        refuse_unready(connection.alias)
        _statements[key] = _write_statement(connection)
    return _statements[key]


def record(connection: BaseDatabaseWrapper, sql: str, digest: bytes) -> bool:
    """Record a message in the transaction of the moment; return False if it was recorded before.

    Where another transaction has recorded it and is still open, this waits for its end: a commit makes the
    message an old one, a rollback leaves it to this transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [for_driver(digest, connection.vendor)])
        return bool(cursor.rowcount)


def is_conflict(error: DatabaseError) -> bool:
    """Tell whether another transaction was faster, so that the statement may succeed in a new one."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return (code or next(iter(error.args), None)) in _CONFLICTS


def _write_statement(connection: BaseDatabaseWrapper) -> str:
    from faststream_django.inbox.models import HandledMessage

    quote, table = connection.ops.quote_name, HandledMessage._meta.db_table  # noqa: SLF001
    columns = f"{quote(table)} ({quote('digest')}, {quote('handled_at')})"
    row = f"{columns} VALUES (%s, {now_in(connection)})"
    if connection.vendor == "mysql":
        return f"INSERT IGNORE INTO {row}"
    return f"INSERT INTO {row} ON CONFLICT DO NOTHING"
