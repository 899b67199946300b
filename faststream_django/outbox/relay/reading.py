"""What can be sent: one statement, which reads a range of an index for each state.

Whatever the statistics say: they are those of an empty table when it matters. The ranges are written so that
the planner takes the index that is meant; tests/outbox/relay prove it.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.outbox.engines import clock
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.relay.floor import Floor
from faststream_django.outbox.relay.row import COLUMNS, Row

__all__ = ["MOST_EXCLUDED", "Reader"]

MOST_EXCLUDED = 10_000
"""The most keys that one statement leaves out: each is a parameter, of which every engine takes so many."""

BY_ID, BY_DUE = "faststream_outbox_by_id", "faststream_outbox_by_due"


class Reader:
    """Reads the rows of one broker that may be sent now."""

    def __init__(self, using: str, alias: str, limit: int) -> None:
        self._using = using
        self._alias = alias
        self.limit = limit
        self.floor = Floor(using)

    def prepare(self) -> None:
        """Begin anew, as the leader."""
        self.floor.prepare()

    def read(self, excluded: Collection[str] = (), after: int = 0) -> list[Row]:
        """Return those that are READY, by id, then those that are due; at most the limit of each state.

        Of those that are READY leave out these keys, and the ids up to `after`.
        """
        self.floor.before_reading()
        connection = connections[self._using]
        sql, parameters = self._statement(connection, excluded, max(after, self.floor.id))
        began = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            found = cursor.fetchall()
        # The facts are there even if no row is.
        rows = [Row(*(*each[:-2], began)) for each in found if each[0] is not None]
        if self.floor.sequence is not None:
            now, oldest, top = found[0][-3:]
            first_id = 0 if excluded or after else _first_id(rows)  # there may be some before
            self.floor.after_reading(now, oldest, top, first_id, _first_due(rows))
        return rows

    def blocked(self, keys: Collection[str]) -> dict[int, str]:
        """Return the rows that hold back messages with these keys, by id, and their keys."""
        connection = connections[self._using]
        quote = connection.ops.quote_name
        table = quote(OutboxMessage._meta.db_table)  # noqa: SLF001
        broker, state, row_id, key = map(quote, ("broker", "state", "id", "ordering_key"))
        states = f"({State.RETRYING:d}, {State.HOLDING:d})"
        marks = ", ".join(["%s"] * len(keys))
        with connection.cursor() as cursor:
            condition = f"{broker} = %s AND {state} IN {states} AND {key} IN ({marks})"
            sql = f"SELECT {row_id}, {key} FROM {table}{_hint(connection, BY_DUE)} WHERE {condition}"  # noqa: S608
            cursor.execute(sql, [self._alias, *keys])
            return dict(cursor.fetchall())

    def _statement(
        self, connection: BaseDatabaseWrapper, excluded: Collection[str], start: int
    ) -> tuple[str, list[Any]]:
        quote, now = connection.ops.quote_name, clock(connection)
        ready, parameters = self._ready(connection, excluded, start)
        parts = [ready]
        for state in (State.WAITING, State.RETRYING):
            parts.append(self._due(connection, state))
            parameters += (self._alias, self.floor.due[state])
        if connection.vendor == "sqlite":
            return " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts), parameters  # noqa: S608
        union = " UNION ALL ".join(f"({part})" for part in parts)
        if self.floor.sequence is None:
            return union, parameters
        facts = (
            f"SELECT {now} AS moment, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest, "
            f"pg_sequence_last_value({self.floor.sequence}::regclass) AS top"
        )
        columns = ", ".join(f"m.{quote(name)}" for name in COLUMNS)
        sql = f"SELECT {columns}, f.* FROM ({facts}) f LEFT JOIN ({union}) m ON true"  # noqa: S608
        return sql, parameters

    def _ready(
        self, connection: BaseDatabaseWrapper, excluded: Collection[str], start: int
    ) -> tuple[str, list[Any]]:
        """Return the SQL for what is READY, by id from behind the start."""
        broker, state, row_id, key = map(connection.ops.quote_name, ("broker", "state", "id", "ordering_key"))
        without = f" AND {key} NOT IN ({', '.join(['%s'] * len(excluded))})" if excluded else ""
        parameters = [self._alias, start, *excluded]
        end = f"ORDER BY {broker}, {state}, {row_id} LIMIT {self.limit:d}"
        if connection.vendor != "postgresql":
            condition = f"{broker} = %s AND {state} = {State.READY:d} AND {row_id} > %s{without}"
            return f"{self._rows(connection, BY_ID)} WHERE {condition} {end}", parameters
        # The primary key would give the same order, were it not for the comparison of the state. To what
        # is always true of the id the planner ascribes an effect as long as there are no statistics, and
        # of this index only. The state is looked at behind the limit: the other index would profit, too.
        condition = f"{broker} = %s AND ({state}, {row_id}) > ({State.READY:d}, %s){without}"
        condition += f" AND {row_id} > 0 AND {row_id} < {2**63 - 1}"
        first = f"{self._rows(connection, BY_ID)} WHERE {condition} {end}"
        return f"SELECT * FROM ({first}) r WHERE {state} = {State.READY:d}", parameters  # noqa: S608

    def _due(self, connection: BaseDatabaseWrapper, state: State) -> str:
        """Return the SQL for what is due, by that moment."""
        broker, column, due = map(connection.ops.quote_name, ("broker", "state", "due"))
        condition = f"{broker} = %s AND {column} = {state:d} AND {due} >= %s AND {due} <= {clock(connection)}"
        end = f"ORDER BY {broker}, {column}, {due} LIMIT {self.limit:d}"
        return f"{self._rows(connection, BY_DUE)} WHERE {condition} {end}"

    def _rows(self, connection: BaseDatabaseWrapper, index: str) -> str:
        quote = connection.ops.quote_name
        names = ", ".join(map(quote, COLUMNS))
        if self.floor.sequence is None:
            names += f", {clock(connection)} AS moment, 0 AS oldest, 0 AS top"
        table = quote(OutboxMessage._meta.db_table)  # noqa: SLF001
        return f"SELECT {names} FROM {table}{_hint(connection, index)}"  # noqa: S608


def _hint(connection: BaseDatabaseWrapper, index: str) -> str:
    if connection.vendor == "mysql":
        return f" FORCE INDEX ({connection.ops.quote_name(index)})"
    if connection.vendor == "sqlite":
        return f" INDEXED BY {connection.ops.quote_name(index)}"
    return ""


def _first_id(rows: list[Row]) -> int | None:
    return next((row.id for row in rows if row.state == State.READY), None)


def _first_due(rows: list[Row]) -> dict[State, float]:
    first: dict[State, float] = {}
    for row in rows:
        if row.due is not None and row.state in (State.WAITING, State.RETRYING):
            first.setdefault(State(row.state), row.due)
    return first
