"""What a contender is: blocking threads, or tasks in an event loop."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from benchmarks.addresses import Addresses
from benchmarks.sample import EDGE, MemoryWatch, Sample, durations, measure
from benchmarks.workload import Workload

__all__ = ["BlockingContender", "Contender", "Guarantees", "LoopContender", "Publish", "in_tasks"]

Publish = Callable[[Any], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """What holds when a publish has returned."""

    is_confirmed: bool = True
    is_persistent: bool = True
    is_durable: bool = True
    """The queue survives a restart."""
    is_mandatory: bool = True
    """A message that no queue takes comes back."""
    is_acked_late: bool = True
    """Who consumes acknowledges after the handler; who only publishes has nothing to acknowledge."""


class Contender(ABC):
    """One client and one workload; opened once, then asked for one round after the other."""

    guarantees: ClassVar[Guarantees] = Guarantees()

    def __init__(self, addresses: Addresses, queue: str, workload: Workload) -> None:
        self.addresses = addresses
        self.url = addresses.amqp
        self.queue = queue
        self.workload = workload

    @abstractmethod
    def open(self) -> None:
        """Connect, as far as the client does this ahead."""

    @abstractmethod
    def round(self) -> Sample:
        """Publish the messages of the workload; return when all are confirmed."""

    @abstractmethod
    def close(self) -> None: ...

    def release(self) -> None:
        """End the handler of the first message, which a worker holds since open()."""
        raise NotImplementedError

    def fill(self) -> None:
        """Put the messages of the next round into the queue of a worker."""
        raise NotImplementedError


class BlockingContender(Contender):
    """Publishes from threads that stay over all rounds, each with what `publisher()` gave it."""

    def open(self) -> None:
        self.closing = ExitStack()
        size = self.workload.at_once if self.workload.way == "threads" else 1
        self._seats = [ThreadPoolExecutor(1) for _ in range(size)]
        self._publishers = [seat.submit(self.publisher).result() for seat in self._seats]

    def round(self) -> Sample:
        workload = self.workload
        if workload.way == "threads":
            each = workload.calls // workload.at_once
            message = workload.message
            return self._measured(lambda publish: durations(partial(publish, message), each))
        if workload.way == "commits":
            return self._measured(
                lambda publish: durations(partial(self._commit, publish), workload.calls, workload.pause)
            )
        watch = MemoryWatch(workload.count) if workload.count >= 2 * EDGE else None
        return self._measured(lambda publish: self._bulk(publish, watch), watch)

    def close(self) -> None:
        self.closing.close()
        for seat in self._seats:
            seat.shutdown()

    @abstractmethod
    def publisher(self) -> Publish:
        """Return the publish function of the current thread."""

    def finish(self) -> None:
        """Wait, after the last call of a round, for what goes on without its caller."""

    def publish_many(self, publish: Publish, messages: Iterable[Any]) -> None:
        for message in messages:
            publish(message)

    def publish_on_commit(self, publish: Publish, message: Any) -> None:
        from django.db import transaction

        transaction.on_commit(partial(publish, message))

    def _commit(self, publish: Publish) -> None:
        from django.db import transaction

        with transaction.atomic():
            for message in self.workload.messages():
                self.publish_on_commit(publish, message)

    def _bulk(self, publish: Publish, watch: MemoryWatch | None) -> list[float]:
        def call() -> None:
            messages = self.workload.messages()
            self.publish_many(publish, watch.over(messages) if watch else messages)

        return durations(call, self.workload.calls)

    def _measured(self, work: Callable[[Publish], list[float]], watch: MemoryWatch | None = None) -> Sample:
        def run() -> list[float]:
            pairs = zip(self._seats, self._publishers, strict=True)
            futures = [seat.submit(work, publish) for seat, publish in pairs]
            taken = [each for future in futures for each in future.result()]
            self.finish()
            return taken

        return measure(run, self.workload.total, watch)


class LoopContender(Contender):
    """Publishes from as many tasks as the workload has threads, or messages in flight."""

    def open(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self.aopen())

    def round(self) -> Sample:
        return measure(lambda: self._runner.run(self.apublish_all()), self.workload.total)

    def close(self) -> None:
        self._runner.run(self.aclose())
        self._runner.close()

    async def apublish_all(self) -> list[float]:
        return await in_tasks(self.apublish, self.workload)

    @abstractmethod
    async def aopen(self) -> None: ...

    @abstractmethod
    async def apublish(self, message: Any) -> object: ...

    @abstractmethod
    async def aclose(self) -> None: ...


async def in_tasks(apublish: Callable[[Any], Any], workload: Workload) -> list[float]:
    """Publish the workload from `at_once` tasks; one message after the other in each of them.

    This keeps as many messages in flight as a bulk publisher may, and makes no task for a message that
    has to wait.
    """
    message = workload.message
    left = iter(range(workload.total))

    async def publish() -> list[float]:
        taken = []
        for _ in left:
            started = time.perf_counter()
            await apublish(message)
            taken.append(time.perf_counter() - started)
        return taken

    done = await asyncio.gather(*(publish() for _ in range(workload.at_once)))
    return [taken for part in done for taken in part]
