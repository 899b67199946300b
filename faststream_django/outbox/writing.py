"""Stores messages in the transaction of the caller: one INSERT for each call, without the ORM's objects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.conf.entries import broker_settings
from faststream_django.messages.message import Message
from faststream_django.outbox.inserting import Kind, batches, insert
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.resting import resting
from faststream_django.outbox.tables import refuse_without_tables
from faststream_django.publishing.on_commit import Send, defer
from faststream_django.publishing.outgoing import Outgoing

__all__ = ["Stored", "store_with"]

_ready: set[tuple[str, str]] = set()
"""The databases whose tables were seen, by alias and name."""


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
    instead = for_relay
    # Nothing tells when a transaction commits that is not Django's: then the relay sees it.
    for_relay = for_relay or not (connection.in_atomic_block or connection.get_autocommit())
    settings = broker_settings(outgoing[0].broker).outbox
    is_eager = settings.eager and not (for_relay or ordering_key or deliver_at)
    # Else the end of GRACE would be waited for, when the broker may be back long before.
    is_eager = is_eager and outgoing[0].broker not in resting
    kind = Kind(
        broker=outgoing[0].broker,
        ordering_key=ordering_key,
        grace=settings.grace if is_eager else None,
        deliver_at=None if deliver_at is None else deliver_at.timestamp(),
    )
    stored_at = time.monotonic()
    # What is stored for want of a broker may fail too, and must not take the caller's transaction along.
    with transaction.atomic(connection.alias) if instead and connection.in_atomic_block else nullcontext():
        ids = _insert(connection, [each.message for each in outgoing], kind)
    if for_relay:
        return
    rest = connection.alias, is_eager, kind.state == State.READY, stored_at
    stored: list[Any] = [
        Stored(each.message, each.broker, each.timeout, row_id, *rest)
        for each, row_id in zip(outgoing, ids, strict=True)
    ]
    if not all(defer(each, using, robust=True, send=send) for each in stored):
        send(stored, True)  # noqa: FBT003


def _insert(connection: BaseDatabaseWrapper, messages: Sequence[Message], kind: Kind) -> list[int]:
    parts = list(batches(connection, messages))
    # All of them or none, also where there is no transaction.
    is_alone = len(parts) > 1 and connection.get_autocommit()
    with transaction.atomic(connection.alias) if is_alone else nullcontext():
        return [row_id for part in parts for row_id in insert(connection, part, kind)]


def _refuse_database(connection: BaseDatabaseWrapper) -> None:
    """Refuse a database that cannot take the row, before a statement fails in the caller's transaction."""
    key = (connection.alias, str(connection.settings_dict["NAME"]))
    if key in _ready:
        return
    refuse_without_tables(connection.alias)
    _ready.add(key)
