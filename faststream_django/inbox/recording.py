"""The one statement: it records a message, or tells that it was recorded before."""

from __future__ import annotations

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.inbox.tables import now_in, refuse_unready

__all__ = ["is_conflict", "record", "refuse_once"]

_CONFLICTS = {"40001", 1213, 1020}
"""A serialization failure in PostgreSQL's words and in MariaDB's, and MySQL's deadlock."""

_ready: set[tuple[str, str]] = set()
"""The databases whose table was seen, by alias and name."""


def record(connection: BaseDatabaseWrapper, digest: bytes) -> bool:
    """Record a message in the transaction of the moment; return False if it was recorded before.

    Where another transaction has recorded it and is still open, this waits for its end: a commit makes the
    message an old one, a rollback leaves it to this transaction.
    """
    from faststream_django.inbox.models import HandledMessage

    quote, meta = connection.ops.quote_name, HandledMessage._meta  # noqa: SLF001
    columns = f"{quote(meta.db_table)} ({quote('digest')}, {quote('handled_at')})"
    row = f"{columns} VALUES (%s, {now_in(connection)})"
    if connection.vendor == "mysql":
        sql = f"INSERT IGNORE INTO {row}"
    else:
        sql = f"INSERT INTO {row} ON CONFLICT DO NOTHING"
    with connection.cursor() as cursor:
        cursor.execute(sql, [meta.pk.get_db_prep_value(digest, connection)])
        return bool(cursor.rowcount)


def is_conflict(error: DatabaseError) -> bool:
    """Tell whether another transaction was faster, so that the statement may succeed in a new one."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return (code or next(iter(error.args), None)) in _CONFLICTS


def refuse_once(connection: BaseDatabaseWrapper) -> None:
    """Refuse a database that cannot record, before a statement fails in a transaction of the caller."""
    key = (connection.alias, str(connection.settings_dict["NAME"]))
    if key not in _ready:
        refuse_unready(connection.alias)
        _ready.add(key)
