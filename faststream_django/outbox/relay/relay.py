"""The relay of one database and one broker: stands by or leads, until it is told to stop."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from django.db import Error, connections

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import PublishError
from faststream_django.outbox.relay.batches import Batches
from faststream_django.outbox.relay.lease import Lease
from faststream_django.outbox.relay.pruning import Pruning
from faststream_django.outbox.wakeup import LEASES, Listener
from faststream_django.registry import brokers

__all__ = ["Relay"]

logger = logging.getLogger("faststream_django.outbox")

POLL = 1.0
"""Seconds between two looks for each statement of a look, where nothing wakes the relay."""
PAUSES = 0.1, 1.0
"""The first and the longest pause during an outage of the broker: it takes up again soon after the end."""
RECONNECTS = 0.1, 5.0
"""The same for the database."""


class Relay:
    """Sends what is stored for one broker in one database; for one thread.

    `on_alive` is called often, at least every third of LEASE, as long as the database answers.
    """

    def __init__(
        self,
        using: str,
        alias: str,
        *,
        batch_size: int | None = None,
        on_alive: Callable[[], None] = lambda: None,
    ) -> None:
        settings = broker_settings(alias).outbox
        self.using = using
        self.alias = alias
        self.lease = Lease(using, alias, settings.lease)
        self._size = batch_size or settings.batch
        self._on_alive = on_alive
        self._pruning = Pruning(using, alias)
        self._outages = 0

    def run(self, stopping: threading.Event) -> None:
        """Stand by or lead until it is to stop. Never raises."""
        batches, listener = self._batches(stopping), Listener(self.using, self.alias)
        errors = 0
        try:
            while not stopping.is_set():
                try:
                    brokers[self.alias].start()  # so that what comes first does not wait for it
                    self._connect()
                    self._stand_by(listener, stopping)
                    errors = 0
                    self._lead(batches, listener, stopping)
                except Error as error:
                    if not errors:
                        self._say("reconnecting", error)
                    errors = self._recover(errors, stopping)
                except Exception:  # the next batch may do
                    logger.exception("using=%s broker=%s state=retrying", self.using, self.alias)
                    errors = self._recover(errors, stopping)
        finally:
            self._end(batches)
            listener.close()

    def run_once(self, stopping: threading.Event, patience: float) -> bool:
        """Send what is due, and return; False if another relay leads and does so for `patience` seconds.

        Raise what the database raises, and the error of the broker during an outage.
        """
        batches = self._batches(stopping)
        try:
            self._connect()
            waited = 0.0
            while not self.lease.renew():
                waited += POLL
                if waited > patience or stopping.wait(POLL):
                    return False
            batches.prepare()
            return self._send_all(batches, stopping)
        finally:
            self._end(batches)

    def _send_all(self, batches: Batches, stopping: threading.Event) -> bool:
        """Send what is due; return False if another one leads. An outage may last as long as TIMEOUT."""
        patience = broker_settings(self.alias).timeout
        deadline = time.monotonic() + patience
        while not stopping.is_set():
            if self.lease.is_due and not self.lease.renew():
                return False
            batch = batches.relay()
            self._note(batch.outage)
            if batch.outage is None or batch.settled:
                deadline = time.monotonic() + patience
            if batch.outage is None and not batch.settled:
                return True
            if batch.outage is not None:
                if time.monotonic() > deadline:
                    raise batch.outage
                self._pause(stopping)
        return True

    def _batches(self, stopping: threading.Event) -> Batches:
        return Batches(self.using, self.alias, self.lease, stopping, size=self._size)

    def _connect(self) -> None:
        connection = connections[self.using]
        connection.ensure_connection()
        if not connection.in_atomic_block and not connection.get_autocommit():
            connection.set_autocommit(True)
        self.lease.prepare()

    def _stand_by(self, listener: Listener, stopping: threading.Event) -> None:
        """Return once it leads, or is to stop."""
        while not self.lease.renew():
            self._on_alive()
            listener.wait(POLL, stopping, LEASES)
            if stopping.is_set():
                return

    def _lead(self, batches: Batches, listener: Listener, stopping: threading.Event) -> None:
        """Send, until another one leads, or it is to stop."""
        batches.prepare()
        logger.info("using=%s broker=%s state=leading", self.using, self.alias)
        while not stopping.is_set():
            statements = 1
            if self.lease.is_due:
                statements += 1
                if not self.lease.renew():
                    logger.info("using=%s broker=%s state=standing-by", self.using, self.alias)
                    return
            self._on_alive()
            batch = batches.relay()
            self._note(batch.outage)
            if batch.outage is not None:
                self._pause(stopping)
            elif batch.settled:
                batches.reader.floor.probe()
            else:
                self._pruning.prune()
                listener.wait(statements * POLL, stopping)

    def _note(self, outage: PublishError | None) -> None:
        if outage is not None:
            if not self._outages:
                self._say("waiting", outage)
            self._outages += 1
        elif self._outages:
            self._outages = 0
            logger.info("using=%s broker=%s state=sending-again", self.using, self.alias)

    def _pause(self, stopping: threading.Event) -> None:
        """Leave the broker some time. It is short: what waits is to leave as soon as it is back."""
        stopping.wait(_wait_after(self._outages, PAUSES))

    def _recover(self, errors: int, stopping: threading.Event) -> int:
        _close(self.using)
        stopping.wait(_wait_after(errors + 1, RECONNECTS))
        return errors + 1

    def _end(self, batches: Batches) -> None:
        """Write what came of the last batch, and leave the lease to another relay."""
        try:
            batches.conclude()
            self.lease.release()
        except Error as error:
            self._say("not-released", error)
        except Exception:
            logger.exception("using=%s broker=%s state=not-released", self.using, self.alias)
        finally:
            _close(self.using)

    def _say(self, state: str, error: Exception) -> None:
        # What a driver of a database says may hold parameters.
        reason = str(error) if isinstance(error, PublishError) else type(error).__name__
        logger.warning("using=%s broker=%s state=%s reason=%r", self.using, self.alias, state, reason)


def _wait_after(failures: int, limits: tuple[float, float]) -> float:
    first, longest = limits
    return min(first * 2.0 ** min(failures - 1, 20), longest) * random.uniform(0.5, 1)  # noqa: S311


def _close(using: str) -> None:
    connection = connections[using]
    if connection.in_atomic_block:  # that of a test
        return
    try:
        connection.close()
    except Error:
        logger.debug("using=%s state=not-closed", using)
