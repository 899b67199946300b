"""Workers that empty a queue. Each runs as its users run it, with messages as its own package makes them."""

from __future__ import annotations

import tempfile
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from benchmarks.consuming.assignment import Assignment
from benchmarks.consuming.handlers import HELD, HOLDING, RELEASED
from benchmarks.consuming.process import WorkerProcess
from benchmarks.consuming.tally import Tallies
from benchmarks.contenders.base import Contender
from benchmarks.django_site import configure, make_tables
from benchmarks.sample import Sample
from faststream_django import Message, brokers, publish, publish_many
from faststream_django.exceptions import MessageUnroutable

START_TIMEOUT = 60.0  # seconds, on a busy machine
ROUND_TIMEOUT = 300.0
GRACE = 0.3
"""Seconds after the last handler in which its message is acknowledged, and in which none may come again."""


class ConsumingContender(Contender):
    """Fills its queue, which nobody measures, and then has the worker empty it.

    The worker stands still (SIGSTOP) while the queue is filled. A round lasts from the moment at which it
    goes on, connected and warm, until as many messages were handled as the queue had.
    """

    is_site: ClassVar[bool] = True
    """Whether the worker is one of a Django site in any case, not only where the ORM is used."""
    is_tuned: ClassVar[bool] = False
    has_coroutines: ClassVar[bool] = False

    def open(self) -> None:
        """Start the worker; return when it handles a message, which it holds until release()."""
        apps = ("benchmarks.orders",)
        configure(self.url, database=self.addresses.database, apps=apps, MAX_IN_FLIGHT=8192)
        make_tables()
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._released = folder / RELEASED
        self._tallies = Tallies(folder)
        workload = self.workload
        told = Assignment(
            amqp=self.url,
            database=self.addresses.database,
            queue=self.queue,
            work=workload.work,
            is_async=workload.is_async and self.has_coroutines,
            at_once=workload.at_once,
            counts=self._folder.name,
            is_tuned=self.is_tuned,
        )
        is_site = self.is_site or workload.work == "insert"
        self._worker = WorkerProcess(self.arguments(), told, is_site=is_site)
        self._worker.wait_until(self._publish_held, timeout=START_TIMEOUT, what="making a queue")
        held = folder / HELD
        self._worker.wait_until(held.exists, timeout=START_TIMEOUT, what="handling a first message")

    def release(self) -> None:
        """Have the held message handled; then the worker stands still."""
        self._released.touch()
        self._worker.wait_until(
            lambda: self._tallies.total() == 1, timeout=START_TIMEOUT, what="ending a handler"
        )
        self._rest()

    def fill(self) -> None:
        """Put the messages of a round into the queue."""
        if self.workload.work == "insert":
            self._tidy_up()
        publish_many(self.messages(self.workload.message, self.workload.total), timeout=30)

    def round(self) -> Sample:
        """Have the worker empty the queue."""
        worker, total = self._worker, self.workload.total
        wanted = self._tallies.total() + total
        cpu_started, started = worker.cpu_seconds(), time.perf_counter()
        worker.resume()
        worker.wait_until(
            lambda: self._tallies.total() >= wanted,
            timeout=ROUND_TIMEOUT,
            what=f"handling {total:,} messages",
        )
        seconds, cpu_seconds = time.perf_counter() - started, worker.cpu_seconds() - cpu_started
        self._rest()
        self._verify(self._tallies.total() - wanted)
        return Sample(messages=total, seconds=seconds, cpu_seconds=cpu_seconds, median_seconds=seconds)

    def close(self) -> None:
        self._worker.stop()
        brokers.stop()
        self._folder.cleanup()

    @abstractmethod
    def arguments(self) -> Sequence[str]:
        """Return the command that runs the worker, after `python -m`."""

    @abstractmethod
    def messages(self, message: Any, count: int) -> Iterator[Any]:
        """Make as many messages, as the package itself makes them."""

    def _publish_held(self) -> bool:
        (held,) = self.messages({**self.workload.message, **HOLDING}, 1)
        try:
            publish(held)
        except MessageUnroutable:  # it is the worker that makes this queue
            return False
        return True

    def _rest(self) -> None:
        time.sleep(GRACE)
        self._worker.suspend()

    def _verify(self, too_many: int) -> None:
        """Raise RuntimeError unless each message of a round was handled once, and did what it is for."""
        if too_many:
            raise RuntimeError(f"{too_many} messages more were handled than there were")
        if self.workload.work == "insert":
            from benchmarks.orders.models import Order

            rows = Order.objects.count()
            if rows != self.workload.total:
                raise RuntimeError(f"{self.workload.total} messages were handled, but there are {rows} rows")

    def _tidy_up(self) -> None:
        """Have the database start every round alike: an empty table, nothing to write."""
        import psycopg

        with psycopg.connect(self.addresses.database, autocommit=True) as connection:
            connection.execute("TRUNCATE orders_order")
            connection.execute("CHECKPOINT")


class OurWorker(ConsumingContender):
    """The worker of a site; its handlers are subscribers of an app."""

    has_coroutines: ClassVar[bool] = True

    def arguments(self) -> Sequence[str]:
        return ["django", "faststream_worker"]

    def messages(self, message: Any, count: int) -> Iterator[Any]:
        for _ in range(count):
            yield Message.encode(message, self.queue)


class FastStreamAlone(OurWorker):
    """Without Django, but where the ORM is used; the same messages."""

    is_site: ClassVar[bool] = False

    def arguments(self) -> Sequence[str]:
        return ["benchmarks.consuming.faststream_app"]


class CeleryWorker(ConsumingContender):
    """Threads in a Django project; it acknowledges late, and prefetches as its documentation advises."""

    pool: ClassVar[str] = "threads"

    def arguments(self) -> Sequence[str]:
        size = [f"--pool={self.pool}", f"--concurrency={self.size}"]
        name = f"--hostname={self.queue}@%h"
        return ["celery", "-A", "benchmarks.consuming.celery_app", "worker", *size, name]

    @property
    def size(self) -> int:
        """Processes, or threads."""
        return self.workload.at_once

    def messages(self, message: Any, count: int) -> Iterator[Any]:
        from celery import Celery
        from kombu.serialization import dumps

        celery = Celery("bench", set_as_current=False)
        for _ in range(count):
            headers, properties, content, _ = celery.amqp.as_task_v2(str(uuid4()), "bench.handle", (message,))
            content_type, content_encoding, body = dumps(content, serializer="json")
            yield Message.encode(
                body.encode(),
                self.queue,
                headers=headers,
                content_type=content_type,
                content_encoding=content_encoding,
                correlation_id=properties["correlation_id"],
            )


class CeleryWorkerTuned(CeleryWorker):
    """It keeps Django's database connections, by CELERY_DB_REUSE_MAX."""

    is_tuned: ClassVar[bool] = True


class CeleryPrefork(CeleryWorker):
    """Two processes: as many as the machine has cores."""

    pool: ClassVar[str] = "prefork"
    size = 2


class DramatiqWorker(ConsumingContender):
    """One process; without Django, but where the ORM is used."""

    is_site: ClassVar[bool] = False

    def arguments(self) -> Sequence[str]:
        size = ["--processes", "1", "--threads", str(self.workload.at_once)]
        return ["dramatiq", "benchmarks.consuming.dramatiq_actors", *size]

    def messages(self, message: Any, count: int) -> Iterator[Any]:
        import dramatiq

        for _ in range(count):
            call = dramatiq.Message(self.queue, "handle", (message,), {}, {})
            yield Message.encode(call.encode(), self.queue, content_type="application/json")
