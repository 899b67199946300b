"""Whether a database can record messages."""

from __future__ import annotations

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.exceptions import InboxNotReady, OutboxNotReady
from faststream_django.outbox.engines import clock

__all__ = ["APP", "missing_table", "now_in", "refuse_unready"]

APP = "faststream_django.inbox"


def refuse_unready(using: str) -> None:
    """Raise InboxNotReady if the database cannot record messages."""
    if not apps.is_installed(APP):
        raise InboxNotReady(
            f"@idempotent needs the app {APP!r}: add it to INSTALLED_APPS, then run 'manage.py migrate'."
        )
    if using not in connections:
        raise InboxNotReady(f"@idempotent(using={using!r}) names no database in DATABASES.")
    now_in(connections[using])
    if table := missing_table(using):
        raise InboxNotReady(
            f"The database {using!r} has no table {table!r}: run 'manage.py migrate faststream_inbox "
            f"--database {using}', and see that no router forbids it there."
        )


def missing_table(using: str) -> str | None:
    """Return the name of the table if the database does not have it."""
    from faststream_django.inbox.models import HandledMessage

    connection, table = connections[using], HandledMessage._meta.db_table  # noqa: SLF001
    with connection.cursor() as cursor:
        return None if table in connection.introspection.table_names(cursor) else table


def now_in(connection: BaseDatabaseWrapper) -> str:
    """Return the SQL for the moment of a statement; raise InboxNotReady for an unknown engine."""
    try:
        return clock(connection)
    except OutboxNotReady:
        raise InboxNotReady(
            f"The inbox does not know the engine of database {connection.alias!r} ({connection.vendor}): "
            "use PostgreSQL, MySQL, MariaDB or SQLite for @idempotent(using=...)."
        ) from None
