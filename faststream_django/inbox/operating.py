"""What operators ask and do: how many messages are recorded, and which need not be any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

from django.db import connections

from faststream_django.inbox.models import HandledMessage
from faststream_django.inbox.tables import now_in

__all__ = ["InboxStats", "count_before", "moment_ago", "prune", "stats"]

BATCH = 1000
"""The rows of one statement, about: no lock is held for long, and handlers work on in between."""


class InboxStats(TypedDict):
    """What is recorded in one database."""

    messages: int
    oldest_age_seconds: float | None
    """How long ago the first of them was handled; None: there is none."""
    newest_age_seconds: float | None


def stats(using: str) -> InboxStats:
    """Return how many messages are recorded, and how long ago they were handled."""
    ((count, oldest, newest),) = _rows(
        using, "SELECT count(*), {now} - min({moment}), {now} - max({moment}) FROM {table}"
    )
    return {"messages": count, "oldest_age_seconds": _age(oldest), "newest_age_seconds": _age(newest)}


def moment_ago(using: str, seconds: float) -> float:
    """Return the moment so long ago, by the clock of the database."""
    ((moment,),) = _rows(using, "SELECT {now} - %s", seconds)
    return float(moment)


def count_before(using: str, moment: float) -> int:
    """Count what was handled before the moment."""
    ((count,),) = _rows(using, "SELECT count(*) FROM {table} WHERE {moment} < %s", moment)
    return int(count)


def prune(using: str, before: float) -> Iterator[int]:
    """Delete what was handled before the moment; yield how many rows each statement deleted.

    Each begins where the one before has ended: PostgreSQL would walk again over all that is deleted, as long
    as a transaction is open that is older.
    """
    start = -1.0
    # The row that ends a full batch; rows of the same moment go with it.
    while last := _rows(
        using,
        "SELECT {moment} FROM {table} WHERE {moment} > %s AND {moment} < %s "
        "ORDER BY {moment} LIMIT 1 OFFSET %s",
        start,
        before,
        BATCH - 1,
    ):
        ((end,),) = last
        yield _execute(using, "DELETE FROM {table} WHERE {moment} > %s AND {moment} <= %s", start, end)
        start = end
    yield _execute(using, "DELETE FROM {table} WHERE {moment} > %s AND {moment} < %s", start, before)


def _rows(using: str, sql: str, *parameters: float) -> list[Any]:
    with connections[using].cursor() as cursor:
        cursor.execute(_named(using, sql), parameters)
        return list(cursor.fetchall())


def _execute(using: str, sql: str, *parameters: float) -> int:
    with connections[using].cursor() as cursor:
        cursor.execute(_named(using, sql), parameters)
        return int(cursor.rowcount)


def _named(using: str, sql: str) -> str:
    connection = connections[using]
    quote, table = connection.ops.quote_name, HandledMessage._meta.db_table  # noqa: SLF001
    return sql.format(table=quote(table), moment=quote("handled_at"), now=now_in(connection))


def _age(seconds: Any) -> float | None:
    return None if seconds is None else round(max(0.0, float(seconds)), 3)
