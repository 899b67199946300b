"""The INSERT: messages as rows, as few bytes and as little work as each engine allows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.messages.message import Message
from faststream_django.outbox.engines import clock, inserted, later_of
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.rows import encode_properties

__all__ = ["Kind", "batches", "insert"]

COLUMNS = (
    "broker",
    "state",
    "due",
    "ordering_key",
    "message_id",
    "exchange",
    "routing_key",
    "body",
    "properties",
    "expires_at",
    "created_at",
    "attempts",
    "last_error",
)
ROWS = 500
"""The most rows of one INSERT, where the engine allows so many parameters."""
BYTES = 4 * 1024 * 1024
"""The most bytes of bodies in one INSERT of several rows: engines and proxies limit a statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the rows of one call have in common. They are the relay's at once unless something says when."""

    broker: str
    ordering_key: str = ""
    grace: float | None = None
    """Seconds from now, during which this process sends them."""
    deliver_at: float | None = None

    @property
    def state(self) -> State:
        return State.READY if self.grace is None and self.deliver_at is None else State.WAITING

    def due(self, connection: BaseDatabaseWrapper) -> tuple[str, tuple[float, ...]]:
        """Return the SQL for the moment from which they are the relay's, and its parameters."""
        if self.grace is not None:
            return f"{clock(connection)} + %s", (self.grace,)
        if self.deliver_at is not None:
            # Never before now, since the relay skips what was due when it had seen everything.
            return later_of(connection, "%s", clock(connection)), (self.deliver_at,)
        return "NULL", ()


def insert(connection: BaseDatabaseWrapper, messages: Sequence[Message], kind: Kind) -> list[int]:
    """Insert the messages and return the ids of their rows, in their order."""
    is_many = connection.vendor == "postgresql" and len(messages) > 1
    rows, parameters = (_rows_of_arrays if is_many else _rows_of_values)(connection, messages, kind)
    quote = connection.ops.quote_name
    table = f"{quote(OutboxMessage._meta.db_table)} ({', '.join(map(quote, COLUMNS))})"  # noqa: SLF001
    with connection.cursor() as cursor:
        return inserted(connection, cursor, f"INSERT INTO {table} {rows}", parameters, len(messages))


def batches(connection: BaseDatabaseWrapper, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Cut the messages into what one INSERT takes."""
    most, rows = connection.features.max_query_params, ROWS
    if most:
        rows = min(rows, most // len(COLUMNS))
    start = size = 0
    for index, message in enumerate(messages):
        size += len(message.body)
        if index > start and (index - start == rows or size > BYTES):
            yield messages[start:index]
            start, size = index, len(message.body)
    yield messages[start:]


def _rows_of_values(
    connection: BaseDatabaseWrapper, messages: Sequence[Message], kind: Kind
) -> tuple[str, list[Any]]:
    now, (due, moment) = clock(connection), kind.due(connection)
    row = f"(%s, %s, {due}, %s, %s, %s, %s, %s, %s, {now} + %s, {now}, 0, '')"
    parameters: list[Any] = []
    for each in messages:
        parameters += (kind.broker, int(kind.state), *moment, kind.ordering_key, each.message_id)
        parameters += (each.exchange, each.routing_key, _binary(connection, each.body))
        parameters += (encode_properties(each), each.expiration)
    return f"VALUES {', '.join([row] * len(messages))}", parameters


def _rows_of_arrays(
    connection: BaseDatabaseWrapper, messages: Sequence[Message], kind: Kind
) -> tuple[str, list[Any]]:
    """Pass all rows as two parameters: psycopg takes longer for a thousand than PostgreSQL for the INSERT."""
    now, (due, moment) = clock(connection), kind.due(connection)
    columns = [
        (each.message_id, each.exchange, each.routing_key, encode_properties(each), each.expiration)
        for each in messages
    ]
    row = f"%s, %s, {due}, %s, v->>0, v->>1, v->>2, body, v->>3, {now} + (v->>4)::float8, {now}, 0, ''"
    source = "ROWS FROM (json_array_elements(%s::json), unnest(%s::bytea[])) WITH ORDINALITY"
    bodies = [_binary(connection, each.body) for each in messages]
    return (
        f"SELECT {row} FROM {source} AS rows (v, body, number) ORDER BY number",  # noqa: S608 - no values in it
        [kind.broker, int(kind.state), *moment, kind.ordering_key, json.dumps(columns), bodies],
    )


def _binary(connection: BaseDatabaseWrapper, body: bytes) -> Any:
    return connection.Database.Binary(body)  # type: ignore[attr-defined]
