"""Sends one wave of a batch, as long as the lease allows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from faststream_django.conf.entries import broker_settings
from faststream_django.connection.bulk import LOST, Chunk, Item
from faststream_django.exceptions import ConnectionLost, InvalidMessage, PublishError
from faststream_django.messages.message import Message
from faststream_django.outbox.relay.lease import Lease
from faststream_django.outbox.relay.row import Row
from faststream_django.outbox.sending import COUNTED
from faststream_django.registry import brokers
from faststream_django.signals import message_failed, message_published

__all__ = ["Outcome", "Sender"]

logger = logging.getLogger("faststream_django.outbox")

FEEDING, ANSWERING = 1 / 2, 1 / 3
"""The parts of the lease that must be left for a message to leave, and within which it does or never will."""


@dataclass(slots=True)
class Outcome:
    """What came of the rows of a batch."""

    done: set[int] = field(default_factory=set)
    """Confirmed, or expired: to be deleted."""
    refused: list[tuple[Row, PublishError]] = field(default_factory=list)
    """The message may be to blame: counts as an attempt."""
    postponed: list[tuple[Row, PublishError]] = field(default_factory=list)
    """Others are to be sent first; it costs no attempt."""
    unreadable: list[tuple[Row, InvalidMessage]] = field(default_factory=list)
    """There is no message in the row."""
    lost: dict[int, PublishError] = field(default_factory=dict)
    """In flight when the connection was lost."""
    outage: PublishError | None = None
    """Why it is useless to go on."""
    confirmed_count: int = 0


class Sender:
    """Sends the messages of one broker for the relay that holds the lease."""

    def __init__(self, alias: str, lease: Lease, stopping: threading.Event) -> None:
        self._alias = alias
        self._lease = lease
        self._stopping = stopping

    @property
    def may_send(self) -> bool:
        return self._lease.seconds_left > self._lease.seconds * FEEDING and not self._stopping.is_set()

    def send(self, rows: list[Row], outcome: Outcome) -> None:
        """Send these together; note what became of each, of those that could not be tried nothing."""
        sent: list[Row] = []

        def settle(chunk: Chunk) -> None:
            for publication in chunk.publications:
                error = chunk.errors.get(publication.index)
                row = sent[publication.index]
                if error is None:
                    outcome.done.add(row.id)
                    outcome.confirmed_count += 1
                    if message_published.has_listeners(Message):
                        message_published.send_robust(
                            Message, message=publication.message, broker=self._alias
                        )
                else:
                    self._fail(row, publication.message, error, outcome)

        timeout = min(broker_settings(self._alias).timeout, self._lease.seconds * ANSWERING)
        feed = self._feed(rows, sent, outcome)
        # A list has no thread look after it, which costs more than the one message of a key.
        brokers[self._alias].send_many(list(feed) if len(rows) == 1 else feed, timeout, settle)

    def _feed(self, rows: list[Row], sent: list[Row], outcome: Outcome) -> Iterator[Item]:
        for row in rows:
            if not self.may_send:
                return
            remaining = row.remaining
            if remaining is not None and remaining <= 0:
                outcome.done.add(row.id)
                logger.info("broker=%s message_id=%r state=expired", self._alias, row.message_id)
                continue
            try:
                message = row.message()
            except Exception as error:  # noqa: BLE001 - whatever is in the row, the others go on
                outcome.unreadable.append((row, self._unreadable(row, error)))
                continue
            sent.append(row)
            yield message

    def _fail(self, row: Row, message: Message, error: PublishError, outcome: Outcome) -> None:
        if isinstance(error, COUNTED):
            outcome.refused.append((row, error))
            if message_failed.has_listeners(Message):
                message_failed.send_robust(Message, message=message, broker=self._alias, error=error)
            return
        if isinstance(error, LOST):
            outcome.outage = error
        if isinstance(error, ConnectionLost):
            outcome.lost[row.id] = error
        elif error.maybe_sent or not isinstance(error, LOST):
            # A queue that does not answer, or a middleware that raises: others have their turn first.
            outcome.postponed.append((row, error))

    def _unreadable(self, row: Row, error: Exception) -> InvalidMessage:
        return InvalidMessage(
            f"The row of message {row.message_id} in the outbox cannot be read ({type(error).__name__}): "
            "this version of faststream_django has not written its body and properties. Discard it, and "
            "publish the message again.",
            message_id=row.message_id,
            broker=self._alias,
        )
