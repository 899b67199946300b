"""What a refused message waits for: its next attempt, or somebody who decides."""

from __future__ import annotations

import logging
import random
from typing import Any

from django.db import connections, transaction

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import PublishError
from faststream_django.messages.message import Message
from faststream_django.outbox.engines import clock
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.relay.lease import Lease
from faststream_django.outbox.relay.row import Row
from faststream_django.signals import outbox_message_dead

__all__ = ["Attempts", "backoff"]

logger = logging.getLogger("faststream_django.outbox")

POSTPONED = 1.0
"""The most seconds that a message waits when others are to be sent first."""
JITTER = 0.25
"""The most that a wait is longer than it should be, as a part of it."""
MOST_TEXT = 2000


def backoff(attempts: int, first: float, longest: float) -> float:
    """Return the seconds until the attempt after so many."""
    seconds = min(first * 2.0 ** min(attempts - 1, 60), longest)
    return min(seconds * random.uniform(1, 1 + JITTER), longest)  # noqa: S311


class Attempts:
    """Keeps the books of one broker's messages; only the holder of the lease can."""

    def __init__(self, using: str, alias: str, lease: Lease) -> None:
        self._using = using
        self._alias = alias
        self._lease = lease

    def write(
        self,
        refused: list[tuple[Row, PublishError]],
        postponed: list[tuple[Row, PublishError]],
        unreadable: list[tuple[Row, Any]],
    ) -> bool:
        """Count the attempts, and let the messages wait or be dead; return False if the lease is lost."""
        settings = broker_settings(self._alias).outbox
        dead: list[tuple[Row, PublishError]] = []
        is_written = True
        with transaction.atomic(using=self._using):
            for row, error in refused:
                attempts = row.attempts + 1
                if attempts < settings.max_attempts:
                    is_written &= self._wait(row, attempts, backoff(attempts, *settings.backoff), error)
                elif self._die(row, attempts, error):
                    dead.append((row, error))
                else:
                    is_written = False
            for row, error in postponed:
                is_written &= self._wait(row, row.attempts, min(settings.backoff[0], POSTPONED), error)
            dead += [(row, error) for row, error in unreadable if self._die(row, row.attempts, error)]
        for row, error in dead:
            self._tell(row, error)
        return is_written

    def _wait(self, row: Row, attempts: int, seconds: float, error: PublishError) -> bool:
        state = State.RETRYING if row.ordering_key else State.WAITING
        return self._update(row, state, attempts, seconds, error)

    def _die(self, row: Row, attempts: int, error: PublishError) -> bool:
        holds = bool(row.ordering_key) and broker_settings(self._alias).outbox.hold_keys
        return self._update(row, State.HOLDING if holds else State.DEAD, attempts, 0.0, error)

    def _update(self, row: Row, state: State, attempts: int, seconds: float, error: PublishError) -> bool:
        """Write it, unless another relay leads meanwhile, or has written."""
        connection = connections[self._using]
        quote = connection.ops.quote_name
        condition, parameters = self._lease.condition()
        written: list[Any] = [state, attempts, str(error)[:MOST_TEXT], seconds]
        values = ", ".join(f"{quote(name)} = %s" for name in ("state", "attempts", "last_error"))
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {quote(OutboxMessage._meta.db_table)} "  # noqa: S608, SLF001
                f"SET {values}, {quote('due')} = {clock(connection)} + %s "
                f"WHERE {quote('id')} = %s AND {quote('state')} = %s AND {quote('attempts')} = %s "
                f"AND {condition}",
                [*written, row.id, row.state, row.attempts, *parameters],
            )
            return bool(cursor.rowcount)

    def _tell(self, row: Row, error: PublishError) -> None:
        logger.error(
            "using=%s broker=%s message_id=%r exchange=%r routing_key=%r attempts=%d state=dead reason=%r",
            self._using,
            self._alias,
            row.message_id,
            row.exchange,
            row.routing_key,
            row.attempts + 1,
            str(error),
        )
        outbox_message_dead.send_robust(
            Message, message=error.message, broker=self._alias, error=error, using=self._using
        )
