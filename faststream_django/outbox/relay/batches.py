"""One batch after the other: read, sent in waves, deleted."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from faststream_django.exceptions import PublishError
from faststream_django.outbox.models import State
from faststream_django.outbox.relay.attempts import Attempts
from faststream_django.outbox.relay.lease import Lease
from faststream_django.outbox.relay.reading import MOST_EXCLUDED, Reader
from faststream_django.outbox.relay.row import Row
from faststream_django.outbox.relay.sending import Outcome, Sender
from faststream_django.outbox.relay.waves import Waves, held_back
from faststream_django.outbox.sending import delete_rows

__all__ = ["Batch", "Batches"]

logger = logging.getLogger("faststream_django.outbox")

SEVERAL = 2
"""What was in flight at so many lost connections is sent alone."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of one batch."""

    read: int = 0
    settled: int = 0
    """Rows that are deleted, dead or wait for their next attempt."""
    outage: PublishError | None = None


class Batches:
    """Relays batches for the holder of the lease. Whatever is raised may come again with the next one."""

    def __init__(self, using: str, alias: str, lease: Lease, stopping: threading.Event, *, size: int) -> None:
        self._using = using
        self._alias = alias
        self._lease = lease
        self._sender = Sender(alias, lease, stopping)
        self._attempts = Attempts(using, alias, lease)
        self.reader = Reader(using, alias, size)
        self._outcome = Outcome()
        self._excluded: set[str] = set()
        self._suspects: dict[int, int] = {}
        """How many connections were lost while these were in flight; of the last batch only."""

    def prepare(self) -> None:
        """Begin anew, as the leader."""
        self.reader.prepare()
        self._excluded, self._suspects = set(), {}

    def relay(self) -> Batch:
        """Relay one batch."""
        self.conclude()
        rows = self._claim()
        if not rows:
            return Batch()
        outcome = self._outcome
        waves = Waves(rows)
        while (wave := waves.next()) and outcome.outage is None:
            if self._lease.is_due and not self._lease.renew():
                break
            if not self._sender.may_send:
                break
            self._send(wave, outcome)
            waves.settle(outcome.done)
        self._suspect(rows, outcome)
        failed = len(outcome.refused) + len(outcome.postponed) + len(outcome.unreadable)
        batch = Batch(len(rows), len(outcome.done) + failed, outcome.outage)
        logger.debug(
            "using=%s broker=%s read=%d confirmed=%d refused=%d postponed=%d unreadable=%d",
            self._using,
            self._alias,
            len(rows),
            outcome.confirmed_count,
            len(outcome.refused),
            len(outcome.postponed),
            len(outcome.unreadable),
        )
        self.conclude()
        return batch

    def conclude(self) -> None:
        """Write what came of the last batch, unless that is done: after an error, too."""
        outcome = self._outcome
        if outcome.done:
            delete_rows(self._using, sorted(outcome.done))
            outcome.done.clear()
        failed = outcome.refused, outcome.postponed, outcome.unreadable
        if any(failed) and not self._attempts.write(*failed):
            self._lease.doubt()
        self._outcome = Outcome()

    def _claim(self) -> list[Row]:
        """Read what may be sent; go on behind rows whose keys are all held back."""
        held: set[str] = set()
        after = 0
        while True:
            rows = self.reader.read(self._excluded, after)
            keys = {row.ordering_key for row in rows if row.ordering_key} | self._excluded
            if not keys:
                return rows
            # Also those of the pages before: their rows are to be sent first.
            held |= held_back(rows, self.reader.blocked(keys))
            free = [row for row in rows if row.ordering_key not in held]
            ready = [row.id for row in rows if row.state == State.READY]
            if free or len(ready) < self.reader.limit or not self._sender.may_send:
                # Those that are held back are not read again and again.
                self._excluded = set(sorted(held)[:MOST_EXCLUDED])
                return free
            after = ready[-1]

    def _send(self, wave: list[Row], outcome: Outcome) -> None:
        together = [row for row in wave if self._suspects.get(row.id, 0) < SEVERAL]
        if together:
            self._sender.send(together, outcome)
        for row in wave:
            if self._suspects.get(row.id, 0) < SEVERAL:
                continue
            if outcome.outage is not None or not self._sender.may_send:
                return
            self._sender.send([row], outcome)
            if (error := outcome.lost.get(row.id)) is not None:
                outcome.postponed.append((row, error))

    def _suspect(self, rows: list[Row], outcome: Outcome) -> None:
        lost = {row.id: self._suspects.get(row.id, 0) + (row.id in outcome.lost) for row in rows}
        self._suspects = {
            row_id: times for row_id, times in lost.items() if times and row_id not in outcome.done
        }
