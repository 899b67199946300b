"""Which rows are meant, and how to find them in a table of millions: along the indexes only."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connections
from django.db.models import Q, QuerySet

from faststream_django.outbox.engines import clock
from faststream_django.outbox.models import OutboxMessage, State

__all__ = ["DEAD", "WORDS", "Selection", "brokers_in", "database_now", "starting_with", "word_for"]

WORDS: dict[str, tuple[State, ...]] = {
    "ready": (State.READY,),
    "waiting": (State.WAITING, State.RETRYING),
    "dead": (State.DEAD, State.HOLDING),
}
"""The states in the three words that people see."""
DEAD = WORDS["dead"]

_LAST = chr(sys.maxunicode)


def word_for(state: int) -> str:
    """Return the word for a state."""
    return next(word for word, states in WORDS.items() if state in states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the rows have in common; what is left out may be anything."""

    states: tuple[State, ...] = ()
    broker: str | None = None
    queue: str | None = None
    """The queue; for a message to an exchange, its routing key."""
    older_than: float | None = None
    """At least so many seconds since the call."""
    dead_for: float | None = None
    """At least so many seconds since the call, and since the last moment for which an attempt was due."""
    prefix: str | None = None
    """How the message id begins."""
    up_to: int | None = None
    """The last row that is meant: what is stored later is not."""

    def ids(self, using: str, *, limit: int, after: int = 0) -> list[int]:
        """Return the first ids above `after`, ascending."""
        return self._first(using, limit, after, is_descending=False)

    def newest(self, using: str, *, limit: int) -> list[int]:
        """Return the last ids, descending."""
        return self._first(using, limit, 0, is_descending=True)

    def batches(self, using: str, size: int = 1000) -> Iterator[list[int]]:
        """Yield all ids, ascending, a batch at a time."""
        after = 0
        while batch := self.ids(using, limit=size, after=after):
            yield batch
            after = batch[-1]

    def count(self, using: str, most: int | None = None) -> int:
        """Count the rows; with `most`, no further than to one more than that."""
        count = 0
        for rows, order in self._ordered(using, 0):
            if most is not None:
                if count > most:
                    break
                # In an order, or the planner may begin at the start of the table.
                rows = rows.order_by(*order)[: most + 1 - count]  # noqa: PLW2901
            count += rows.count()
        return count

    def _first(self, using: str, limit: int, after: int, *, is_descending: bool) -> list[int]:
        sign = "-" if is_descending else ""
        found = [
            # All three columns, or the planner may walk along the primary key instead of this index.
            list(rows.order_by(*(sign + each for each in order)).values_list("pk", flat=True)[:limit])
            for rows, order in self._ordered(using, after)
        ]
        return list(heapq.merge(*found, reverse=is_descending))[:limit]

    def _ordered(self, using: str, after: int) -> Iterator[tuple[QuerySet[OutboxMessage], tuple[str, ...]]]:
        """Yield ranges of one index each that hold all rows together, and the order of that index."""
        rows = self._rows(using)
        if self.prefix is not None or (not self.states and self.broker is None):
            yield self._located(rows).filter(pk__gt=after), ("id",)
            return
        brokers = brokers_in(using) if self.broker is None else [self.broker]
        for broker in brokers:
            for state in self.states or State:
                yield in_index(rows, broker, state, "id", above=after), ("broker", "state", "id")

    def narrowed(self, rows: QuerySet[OutboxMessage]) -> QuerySet[OutboxMessage]:
        """Return those of the rows that are meant, for a small table or a few ids."""
        return self._located(self._filtered(rows))

    def _located(self, rows: QuerySet[OutboxMessage]) -> QuerySet[OutboxMessage]:
        if self.broker is not None:
            rows = rows.filter(broker=self.broker)
        if self.states:
            rows = rows.filter(state__in=self.states)
        return rows

    def _rows(self, using: str) -> QuerySet[OutboxMessage]:
        return self._filtered(OutboxMessage.objects.using(using))

    def _filtered(self, rows: QuerySet[OutboxMessage]) -> QuerySet[OutboxMessage]:
        """Return the rows, as far as the index of broker and state does not tell."""
        using = rows.db
        if self.queue is not None:
            rows = rows.filter(routing_key=self.queue)
        if self.prefix is not None:
            rows = rows.filter(starting_with(using, self.prefix))
        if self.up_to is not None:
            rows = rows.filter(pk__lte=self.up_to)
        quote, now = connections[using].ops.quote_name, clock(connections[using])
        created_at, due = quote("created_at"), quote("due")
        if self.older_than is not None:
            rows = rows.extra(where=[f"{created_at} <= {now} - %s"], params=[self.older_than])  # noqa: S610
        if self.dead_for is not None:
            where = [f"{created_at} <= {now} - %s", f"({due} IS NULL OR {due} <= {now} - %s)"]
            rows = rows.extra(where=where, params=[self.dead_for, self.dead_for])  # noqa: S610
        return rows


def in_index(
    rows: QuerySet[OutboxMessage],
    broker: str,
    state: int,
    column: str,
    *,
    above: float = 0,
    below: float | None = None,
) -> QuerySet[OutboxMessage]:
    """Return the rows of one range of the index on (broker, state, column)."""
    connection = connections[rows.db]
    if connection.vendor == "mysql":  # finds the index by itself, and not for a comparison of rows
        rows = rows.filter(Q(broker=broker), Q(state=state), Q(**{f"{column}__gt": above}))
        return rows if below is None else rows.filter(**{f"{column}__lt": below})
    quote = connection.ops.quote_name
    row = f"({quote('broker')}, {quote('state')}, {quote(column)})"
    end: tuple[Any, ...] = (broker, state + 1, 0) if below is None else (broker, state, below)
    where = [f"{row} > (%s, %s, %s)", f"{row} < (%s, %s, %s)"]
    return rows.extra(where=where, params=[broker, int(state), above, *end])  # noqa: S610


def brokers_in(using: str) -> list[str]:
    """Return the aliases that have rows: one step along the index for each."""
    rows = (
        OutboxMessage.objects.using(using).order_by("broker", "state", "id").values_list("broker", flat=True)
    )
    found: list[str] = []
    while nearest := (rows.filter(broker__gt=found[-1]) if found else rows).first():
        found.append(nearest)
    return found


def starting_with(using: str, prefix: str) -> Q:
    """Return the condition for a message id that begins so, as each engine finds it in an index."""
    if connections[using].vendor == "sqlite":  # whose LIKE ignores case, and so an index
        return Q(message_id__gte=prefix, message_id__lt=prefix + _LAST)
    # Of MySQL, LIKE BINARY finds no index.
    like = "istartswith" if connections[using].vendor == "mysql" else "startswith"
    return Q(**{f"message_id__{like}": prefix})


def database_now(using: str) -> datetime:
    """Return the moment by the clock of the database."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {clock(connection)}")
        return datetime.fromtimestamp(float(cursor.fetchone()[0]), UTC)
