"""Runs consumers in this process until it is told to stop, and ends in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from faststream_django.exceptions import BrokerRefused
from faststream_django.loop.threads import of_the_standard_library
from faststream_django.worker.probing import Probe
from faststream_django.worker.stopping import TICK, stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from faststream_django.liveness import Liveness
    from faststream_django.worker.consumer import Consumer
    from faststream_django.worker.recycling import Recycling

__all__ = ["LOOP_PATIENCE", "PART", "Worker"]

logger = logging.getLogger("faststream_django.worker")

MARGIN = 0.2
"""Seconds beyond the limit after which the loop is not waited for any more: a handler may block it."""

BEAT = 0.5
"""Seconds between two looks at the consumers, for a probe."""
PART = "worker"
"""The part of a process that a worker notes as alive."""
LOOP_PATIENCE = 3.0
"""Seconds without a beat after which the loop counts as stuck."""
COUNT, WEIGH = 0.1, 1.0
"""Seconds between two looks at how many messages were handled, and at the memory in use."""


@dataclass(frozen=True, slots=True)
class _Stop:
    reason: str


@dataclass(frozen=True, slots=True)
class _Hurry:
    """Wait for no handler any more."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """What became of the consumers."""

    is_whole: bool = True
    """Whether every handler came to its end."""
    error: BaseException | None = None


_Event: TypeAlias = "_Stop | _Hurry | _Ended | Consumer"


class Worker:
    """Runs consumers on a loop in a thread of its own.

    The thread that calls run() only waits, so that it always hears a signal and keeps the time, whatever
    a handler does to the loop.
    """

    def __init__(
        self,
        consumers: Iterable[Consumer],
        *,
        shutdown_timeout: float,
        recycling: Recycling | None = None,
        liveness: Liveness | None = None,
        on_consuming: Callable[[Consumer], None] = lambda _: None,
        on_stopping: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`on_consuming` and `on_stopping`, which gets the deadline, are called in the thread of run()."""
        self.consumers = tuple(consumers)
        for each in self.consumers:
            each.broker.context.set_global("app", self)  # whose exit() FastStream calls
        self.deadline = float("inf")
        """When what still runs is cut off, on the clock of time.monotonic()."""
        self._timeout = shutdown_timeout
        self._recycling = recycling
        self._liveness = liveness
        self._on_consuming = on_consuming
        self._on_stopping = on_stopping
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._stopping = asyncio.Event()
        self._beat_at = 0.0

    def stop(self, reason: str = "") -> None:
        """Take no more messages and let the handlers that run finish; from any thread, at any time."""
        self._events.put(_Stop(reason))

    def hurry(self) -> None:
        """Wait for no handler any more."""
        self._events.put(_Hurry())

    def exit(self) -> None:
        """Stop. FastStream calls it when a handler raises SystemExit."""
        self.stop("a handler raised SystemExit")

    def run(self) -> bool:
        """Consume until it is told to stop; return whether every handler came to its end.

        If not, they still run, and the process has to end at once. Raise what a consumer raises that
        cannot start.
        """
        self._loop = of_the_standard_library().new_event_loop()
        threading.Thread(target=self._live, name="faststream_django-worker", daemon=True).start()
        with stop_signals(self.stop, self.hurry):
            ended = self._until_end()
        if ended.error is not None:
            raise ended.error
        return ended.is_whole

    @property
    def _is_stopping(self) -> bool:
        return self.deadline < float("inf")

    # In the thread of run()

    def _until_end(self) -> _Ended:
        while time.monotonic() < self.deadline + MARGIN:
            event = self._next_event()
            if isinstance(event, _Ended):
                return event
            if isinstance(event, _Stop):
                self._begin_stop(event.reason)
            elif isinstance(event, _Hurry):
                self._begin_stop("")
                self.deadline = min(self.deadline, time.monotonic())
            elif event is not None:
                self._on_consuming(event)
            self._look()
        told = [each.tell_what_is_cut_off(self._timeout) for each in self.consumers]
        return _Ended(is_whole=not any(told))

    def _begin_stop(self, reason: str) -> None:
        if self._is_stopping:
            return
        self.deadline = time.monotonic() + self._timeout
        self._on_stopping(self.deadline)
        if reason:
            logger.info("state=stopping reason=%r", reason)
        with contextlib.suppress(RuntimeError):  # the loop has just ended
            self._loop.call_soon_threadsafe(self._stopping.set)
        if self._liveness is not None:
            self._liveness.state = "stopping"
            self._liveness.note(PART)

    def _next_event(self) -> _Event | None:
        pauses = [self.deadline + MARGIN - time.monotonic(), TICK]
        if self._liveness is not None:
            pauses.append(BEAT)
        if self._recycling is not None:
            pauses.append(WEIGH if self._recycling.messages is None else COUNT)
        try:
            return self._events.get(timeout=max(0.0, min(pauses)))
        except Empty:
            return None

    def _look(self) -> None:
        if self._liveness is not None and self._beat_at > time.monotonic() - LOOP_PATIENCE:
            self._liveness.note(PART)
        if self._recycling is not None and not self._is_stopping:
            reason = self._recycling.reason(sum(each.handled for each in self.consumers))
            if reason:
                self._begin_stop(reason)

    # On the loop

    def _live(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                ended = runner.run(self._consume())
        except BaseException as error:  # noqa: BLE001 - raised by run()
            ended = _Ended(error=error)
        self._events.put(ended)

    async def _consume(self) -> _Ended:
        background = [] if self._liveness is None else self._begin_to_beat(self._liveness)
        error = None
        try:
            await self._until_stopping()
        except Exception as failed:  # noqa: BLE001 - raised by run()
            error = failed
        self.stop()  # what fails ends the others, too
        for each in self.consumers:
            each.stop_taking()
        finished = await asyncio.gather(*(each.finish(self._timeout) for each in self.consumers))
        ended = _Ended(is_whole=all(finished), error=error)
        if not ended.is_whole:
            self._events.put(ended)
            # The loop goes on until the process ends: closing it would close the connection, and the broker
            # would give to others what a thread is still busy with.
            await asyncio.get_running_loop().create_future()
        for task in background:
            task.cancel()
        return ended

    async def _until_stopping(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        starting = [asyncio.create_task(self._start(each)) for each in self.consumers]
        pending: set[asyncio.Task[object]] = {stopping, *starting}
        try:
            while not stopping.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(stopping, *starting, return_exceptions=True)

    async def _start(self, consumer: Consumer) -> None:
        try:
            await consumer.start()
        except BrokerRefused as error:
            raise BrokerRefused(f"Broker {consumer.settings.alias!r}: {error}") from error
        self._events.put(consumer)

    def _begin_to_beat(self, liveness: Liveness) -> list[asyncio.Task[None]]:
        probes = [Probe(each) for each in self.consumers]
        steps = [*(each.run() for each in probes), self._beat(liveness, probes)]
        return [asyncio.create_task(step) for step in steps]

    async def _beat(self, liveness: Liveness, probes: list[Probe]) -> None:
        has_begun = False
        while True:
            waiting = sorted(each.consumer.settings.alias for each in probes if not each.is_ready)
            has_begun = has_begun or not waiting
            if self._is_stopping:
                liveness.state = "stopping"
            elif waiting:
                liveness.state = f"waiting for {', '.join(waiting)}" if has_begun else "starting"
            else:
                liveness.state = "ready"
            self._beat_at = time.monotonic()
            await asyncio.sleep(BEAT)
