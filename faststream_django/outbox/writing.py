"""Stores messages in the transaction of the caller: one INSERT for each call, without the ORM's objects."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import OutboxNotReady
from faststream_django.outbox.engines import clock, inserted, later_of
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.rows import encode_properties
from faststream_django.publishing.on_commit import Send, defer
from faststream_django.publishing.outgoing import Outgoing

__all__ = ["Stored", "store_with"]

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

_ready: set[tuple[str, str]] = set()
"""The databases whose table was seen, by alias and name."""


@dataclass(frozen=True, slots=True)
class Stored(Outgoing):
    """A message and its row."""

    row_id: int
    using: str
    """The alias of the database."""
    is_eager: bool
    """Whether this process sends it; else only the relay does."""
    wakes_relay: bool
    """Whether the relay may send it at once."""
    stored_at: float
    """The moment of the call, on the clock of time.monotonic()."""


def store_with(
    send: Send,
    outgoing: Sequence[Outgoing],
    using: str | None,
    *,
    ordering_key: str = "",
    deliver_at: datetime | None = None,
    for_relay: bool = False,
) -> None:
    """See publishing.durable.Store; have the rows handed to `send` once they are committed."""
    if using is None and for_relay:
        using = router.db_for_write(OutboxMessage)
    connection = transaction.get_connection(using)
    _refuse_database(connection)
    # Nothing tells when a transaction commits that is not Django's: then the relay sees it.
    for_relay = for_relay or not (connection.in_atomic_block or connection.get_autocommit())
    is_eager = not (for_relay or ordering_key or deliver_at)
    is_eager = is_eager and broker_settings(outgoing[0].broker).outbox.eager
    batches = list(_batches(connection, outgoing))
    # All of them or none, also where there is no transaction.
    with nullcontext() if len(batches) == 1 or for_relay else transaction.atomic(connection.alias):
        stored = [
            each
            for batch in batches
            for each in _insert(connection, batch, ordering_key, deliver_at, is_eager=is_eager)
        ]
    if for_relay:
        return
    if not all(defer(each, using, robust=True, send=send) for each in stored):
        send(stored, True)  # noqa: FBT003


def _insert(
    connection: BaseDatabaseWrapper,
    batch: Sequence[Outgoing],
    ordering_key: str,
    deliver_at: datetime | None,
    *,
    is_eager: bool,
) -> list[Any]:
    grace = broker_settings(batch[0].broker).outbox.grace
    now, state, due = clock(connection), State.READY, "NULL"
    moment: tuple[float, ...] = ()
    if is_eager:
        state, due, moment = State.WAITING, f"{now} + %s", (grace,)
    elif deliver_at is not None:
        # Never before now, since the relay skips what was due when it had seen everything.
        state, due, moment = State.WAITING, later_of(connection, "%s", now), (deliver_at.timestamp(),)
    row = f"(%s, %s, {due}, %s, %s, %s, %s, %s, %s, {now} + %s, {now}, 0, '')"
    parameters: list[Any] = []
    for each in batch:
        message = each.message
        parameters += (each.broker, state, *moment, ordering_key, message.message_id)
        parameters += (message.exchange, message.routing_key, _binary(connection, message.body))
        parameters += (encode_properties(message), message.expiration)
    stored_at = time.monotonic()
    with connection.cursor() as cursor:
        ids = _insert_rows(connection, cursor, row, len(batch), parameters)
    rest = connection.alias, is_eager, state == State.READY, stored_at
    return [
        Stored(each.message, each.broker, each.timeout, row_id, *rest)
        for each, row_id in zip(batch, ids, strict=True)
    ]


def _insert_rows(
    connection: BaseDatabaseWrapper, cursor: CursorWrapper, row: str, count: int, parameters: list[Any]
) -> list[int]:
    """Insert and return the ids, in the order of the rows."""
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, COLUMNS))
    sql = f"INSERT INTO {quote(OutboxMessage._meta.db_table)} ({columns}) VALUES {', '.join([row] * count)}"  # noqa: S608, SLF001
    return inserted(connection, cursor, sql, parameters, count)


def _batches(connection: BaseDatabaseWrapper, outgoing: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    most, rows = connection.features.max_query_params, ROWS
    if most:
        rows = min(rows, most // len(COLUMNS))
    batch: list[Outgoing] = []
    size = 0
    for each in outgoing:
        size += len(each.message.body)
        if batch and (len(batch) == rows or size > BYTES):
            yield batch
            batch, size = [], len(each.message.body)
        batch.append(each)
    yield batch


def _binary(connection: BaseDatabaseWrapper, body: bytes) -> Any:
    return connection.Database.Binary(body)  # type: ignore[attr-defined]


def _refuse_database(connection: BaseDatabaseWrapper) -> None:
    """Refuse a database that cannot take the row, before a statement fails in the caller's transaction."""
    key = (connection.alias, str(connection.settings_dict["NAME"]))
    if key in _ready:
        return
    clock(connection)  # raises for an engine that the outbox does not know
    table = OutboxMessage._meta.db_table  # noqa: SLF001
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
    if table not in tables:
        raise OutboxNotReady(
            f"The database {connection.alias!r} has no table {table!r}: run 'manage.py migrate "
            f"faststream_outbox --database {connection.alias}', and see that no router forbids it there."
        )
    _ready.add(key)
