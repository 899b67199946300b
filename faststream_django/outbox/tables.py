"""Whether a database can hold messages."""

from __future__ import annotations

from django.db import connections

from faststream_django.exceptions import OutboxNotReady
from faststream_django.outbox.engines import clock
from faststream_django.outbox.models import Lease, OutboxMessage

__all__ = ["missing_tables", "refuse_without_tables"]


def missing_tables(using: str) -> list[str]:
    """Return the tables of the outbox that the database does not have."""
    connection = connections[using]
    with connection.cursor() as cursor:
        present = set(connection.introspection.table_names(cursor))
    wanted = (OutboxMessage._meta.db_table, Lease._meta.db_table)  # noqa: SLF001
    return [table for table in wanted if table not in present]


def refuse_without_tables(using: str) -> None:
    """Raise OutboxNotReady if the database cannot hold messages."""
    clock(connections[using])
    if missing := missing_tables(using):
        raise OutboxNotReady(
            f"The database {using!r} has no table {missing[0]!r}: run 'manage.py migrate faststream_outbox "
            f"--database {using}', and see that no router forbids it there."
        )
