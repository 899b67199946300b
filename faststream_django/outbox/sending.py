"""Sends rows of the outbox after their commit, and deletes what the broker has confirmed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import groupby

from django.db import DatabaseError, connections

from faststream_django.conf.entries import broker_settings
from faststream_django.connection.bulk import Chunk
from faststream_django.connection.stand_in import StandIn
from faststream_django.exceptions import InvalidMessage, MessageRejected, MessageUnroutable
from faststream_django.messages.message import Message
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.rows import aged
from faststream_django.outbox.writing import Stored
from faststream_django.publishing.announcements import announce
from faststream_django.registry import brokers

__all__ = ["COUNTED", "delete_rows", "send_rows"]

logger = logging.getLogger("faststream_django.outbox")

COUNTED = (MessageUnroutable, MessageRejected, InvalidMessage)
"""What the message itself may be to blame for. Anything else is an outage, which costs no attempt."""

FEEDING = 0.5
"""The part of GRACE in which messages may begin to leave; the rest is for the answers of the broker."""


def send_rows(stored: list[Stored]) -> None:
    """Send what is still in its database, and delete what is confirmed. Never raises for a message.

    What fails, and what has no time left, stays for the relay.
    """
    for using, rows in groupby(sorted(stored, key=lambda each: each.using), lambda each: each.using):
        here = list(rows)
        try:
            present = set(
                OutboxMessage.objects.using(using)
                .filter(pk__in=[each.row_id for each in here])
                .values_list("pk", flat=True)
            )
            # A savepoint that was rolled back by hand takes its rows along, and Django keeps the callback.
            confirmed = list(_confirmed(each for each in here if each.row_id in present))
            delete_rows(using, confirmed)
        except DatabaseError as error:
            logger.warning("using=%s state=left-to-relay reason=%s", using, type(error).__name__)
            connections[using].close_if_unusable_or_obsolete()


def delete_rows(using: str, ids: list[int]) -> None:
    """Delete what the broker has, whoever sent it."""
    if ids:
        OutboxMessage.objects.using(using).filter(pk__in=ids)._raw_delete(using)  # noqa: SLF001


def _confirmed(rows: Iterable[Stored]) -> Iterator[int]:
    """Send the rows, those of one broker together; yield the ids of those that are done with."""
    groups: dict[str, list[Stored]] = {}
    for each in rows:
        if each.is_eager or isinstance(brokers[each.broker], StandIn):
            groups.setdefault(each.broker, []).append(each)
    for alias, group in groups.items():
        settings = broker_settings(alias)
        feed = _Feed(group, settings.outbox.grace)
        timeout = min(settings.timeout, feed.seconds_left)
        if timeout > 0:
            brokers[alias].send_many(feed, timeout, feed.settle)
        yield from feed.done


class _Feed:
    """The messages of one broker, as long as there is time; and what came of them."""

    def __init__(self, rows: list[Stored], grace: float) -> None:
        self.done: list[int] = []
        """The rows whose messages the broker has, or that have expired."""
        self._rows = rows
        self._sent: list[Stored] = []
        self._grace = grace

    @property
    def seconds_left(self) -> float:
        """What send_many() may take for each step: half of what is left, as a message is sent until then."""
        oldest = min(each.stored_at for each in self._rows)
        return (oldest + self._grace - time.monotonic()) * FEEDING

    def __iter__(self) -> Iterator[Message]:
        for each in self._rows:
            age = time.monotonic() - each.stored_at
            if age > self._grace * FEEDING:
                return
            message = aged(each.message, age)
            if message is None:
                self.done.append(each.row_id)
                continue
            self._sent.append(each)
            yield message

    def settle(self, chunk: Chunk) -> None:
        for publication in chunk.publications:
            error = chunk.errors.get(publication.index)
            if error is None:
                self.done.append(self._sent[publication.index].row_id)
            if error is None or isinstance(error, COUNTED):
                announce(publication.message, publication.broker, error)
