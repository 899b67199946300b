"""One connection to one broker: deadlines, limits, and two doors to the coroutine that sends.

Knows no Django and no driver.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from faststream_django.backends.base import Backend, Delivery, NotSent
from faststream_django.bulk import CHUNKS_UNDER_WAY, Bulk, BulkResult, Chunk, Item
from faststream_django.conf import BrokerSettings
from faststream_django.exceptions import (
    BrokerUnavailable,
    MessageRejected,
    MessageUnroutable,
    PublishError,
)
from faststream_django.loop import (
    LoopStalled,
    LoopStopped,
    LoopThread,
    TaskCall,
    ThreadCall,
    loop_thread,
)
from faststream_django.messages import Message
from faststream_django.outcomes import (
    conclude,
    late,
    middleware_failed,
    swallowed,
    unanswered,
    unavailable,
)
from faststream_django.supervisor import Supervisor
from faststream_django.window import Window

__all__ = ["Connection", "Sender"]

# What the caller's thread waits longer than the loop, which has the better knowledge of what happened.
GRACE = 0.1
# The part of SHUTDOWN_TIMEOUT that is kept for the closing handshake.
CLOSING_TIME = 1.0


def ignore(chunk: Chunk) -> None:
    """Do nothing with a chunk that is done."""


async def aignore(chunk: Chunk) -> None:
    """See ignore()."""


class Sender(Protocol):
    """What the verbs need: a connection, or what stands in for it in a test."""

    settings: BrokerSettings

    def start(self) -> None: ...
    def send(self, message: Message, timeout: float | None = None) -> None: ...
    async def asend(self, message: Message, timeout: float | None = None) -> None: ...
    def send_many(
        self,
        items: Iterable[Item],
        timeout: float | None = None,
        settled: Callable[[Chunk], None] = ...,
    ) -> BulkResult: ...
    async def asend_many(
        self,
        items: AsyncIterable[Item],
        timeout: float | None = None,
        settled: Callable[[Chunk], Awaitable[None]] = ...,
    ) -> BulkResult: ...


class Connection:
    """A persistent, supervised connection; safe to use from any thread, task and forked process.

    The backend is made on the loop thread with the first call, since importing a driver takes time.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        make_backend: Callable[[], Backend],
        loop: LoopThread = loop_thread,
    ) -> None:
        self.settings = settings
        self._make_backend = make_backend
        self._loop = loop
        self._live: _Live | None = None

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "not connected"
        return f"<Connection {self.settings.alias!r}: {state}>"

    @property
    def is_connected(self) -> bool:
        """Whether there was a session a moment ago; a publish is the only real test."""
        live = self._live
        return live is not None and live.supervisor.is_connected

    def start(self) -> None:
        """Begin to connect in the background; return at once, whatever the state of the broker."""
        self._loop.submit(self._begin)

    def stop(self, timeout: float | None = None) -> None:
        """Wait until what is in flight is settled, then close; at most `timeout` seconds.

        The default is SHUTDOWN_TIMEOUT. The next call connects again.
        """
        limit = self.settings.shutdown_timeout if timeout is None else timeout
        if self._loop.is_started:
            try:
                self._loop.run(self._end, limit, timeout=limit + GRACE)
            except (LoopStalled, LoopStopped):
                return

    def send(self, message: Message, timeout: float | None = None) -> None:
        """Return once the broker has confirmed the message; raise PublishError within `timeout` seconds."""
        delivery = Delivery(message, self.settings.alias)
        limit = self._limit(timeout)
        try:
            self._loop.run(self._deliver, delivery, limit, timeout=limit + GRACE)
        except (LoopStalled, LoopStopped) as error:
            conclude(delivery, error, connected=self.is_connected)

    async def asend(self, message: Message, timeout: float | None = None) -> None:
        """See send()."""
        delivery = Delivery(message, self.settings.alias)
        limit = self._limit(timeout)
        try:
            await self._loop.arun(self._deliver, delivery, limit, timeout=limit + GRACE)
        except (LoopStalled, LoopStopped) as error:
            conclude(delivery, error, connected=self.is_connected)

    def send_many(
        self,
        items: Iterable[Item],
        timeout: float | None = None,
        settled: Callable[[Chunk], None] = ignore,
    ) -> BulkResult:
        """Send messages pipelined, in their order, in constant memory.

        `timeout` is the longest time without progress, in seconds. Nothing is raised for a message: the
        result tells what failed, and `settled` is called with each chunk that is done. An
        InvalidMessage among the items counts as the failure of its index. Stops early when the
        connection fails. What the iterable raises comes out once all that was sent is settled.
        """
        self._loop.refuse_itself()
        limit = self._limit(timeout)
        bulk = Bulk(self.settings.alias)
        under_way: deque[tuple[Chunk, ThreadCall[None]]] = deque()
        try:
            for item in items:
                if bulk.is_broken:
                    bulk.stop()
                    break
                if chunk := bulk.feed(item):
                    under_way.append((chunk, self._loop.submit(self._deliver_chunk, chunk, limit)))
                if len(under_way) >= CHUNKS_UNDER_WAY:
                    settled(bulk.settle(self._wait(*under_way.popleft(), limit)))
        except KeyboardInterrupt:
            _abandon(bulk, under_way)
            raise
        finally:
            if chunk := bulk.rest():
                under_way.append((chunk, self._loop.submit(self._deliver_chunk, chunk, limit)))
            for pair in under_way:
                settled(bulk.settle(self._wait(*pair, limit)))
        return bulk.result

    async def asend_many(
        self,
        items: AsyncIterable[Item],
        timeout: float | None = None,
        settled: Callable[[Chunk], Awaitable[None]] = aignore,
    ) -> BulkResult:
        """See send_many()."""
        limit = self._limit(timeout)
        bulk = Bulk(self.settings.alias)
        under_way: deque[tuple[Chunk, TaskCall[None]]] = deque()
        try:
            async for item in items:
                if bulk.is_broken:
                    bulk.stop()
                    break
                if chunk := bulk.feed(item):
                    under_way.append((chunk, self._loop.asubmit(self._deliver_chunk, chunk, limit)))
                if len(under_way) >= CHUNKS_UNDER_WAY:
                    await settled(bulk.settle(await self._await(*under_way.popleft(), limit)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            _abandon(bulk, under_way)
            raise
        finally:
            if chunk := bulk.rest():
                under_way.append((chunk, self._loop.asubmit(self._deliver_chunk, chunk, limit)))
            for pair in under_way:
                await settled(bulk.settle(await self._await(*pair, limit)))
        return bulk.result

    def _wait(self, chunk: Chunk, call: ThreadCall[None], limit: float) -> Chunk:
        """Wait for a chunk as long as it makes progress."""
        settled = -1
        while settled != chunk.settled:
            settled = chunk.settled
            try:
                call.wait(limit + GRACE)
            except LoopStalled:
                continue
            except LoopStopped as error:
                return self._give_up(chunk, call, error)
            except BaseException:
                call.cancel()
                raise
            return chunk
        return self._give_up(chunk, call, LoopStalled("no progress"))

    async def _await(self, chunk: Chunk, call: TaskCall[None], limit: float) -> Chunk:
        """See _wait()."""
        settled = -1
        while settled != chunk.settled:
            settled = chunk.settled
            try:
                await call.wait(limit + GRACE)
            except LoopStalled:
                continue
            except LoopStopped as error:
                return self._give_up(chunk, call, error)
            except BaseException:
                call.cancel()
                raise
            return chunk
        return self._give_up(chunk, call, LoopStalled("no progress"))

    def _give_up(
        self, chunk: Chunk, call: ThreadCall[None] | TaskCall[None], error: LoopStalled | LoopStopped
    ) -> Chunk:
        call.cancel()
        for index, delivery in chunk.unsettled():
            chunk.errors[index] = unanswered(delivery, error, connected=self.is_connected)
        return chunk

    def _limit(self, timeout: float | None) -> float:
        return self.settings.timeout if timeout is None else timeout

    # From here on everything runs on the loop thread.

    async def _begin(self) -> None:
        self._here().supervisor.start()

    async def _end(self, timeout: float) -> None:
        live, self._live = self._live, None
        if live is not None and live.supervisor.loop is asyncio.get_running_loop():
            self._loop.remove_closer(live.close)
            await live.close(timeout)

    def _here(self) -> _Live:
        """Return what belongs to this loop; what another loop left behind is not touched."""
        live = self._live
        if live is None or live.supervisor.loop is not asyncio.get_running_loop():
            live = self._live = _Live(self._make_backend())
            self._loop.add_closer(live.close, self.settings.shutdown_timeout)
        return live

    async def _deliver(self, delivery: Delivery, timeout: float) -> None:
        # Counted from here: the first call in a process makes the backend, which imports the driver.
        end = asyncio.get_running_loop().time() + timeout
        live = self._here()
        live.window.admit(delivery)
        try:
            async with asyncio.timeout_at(end) as deadline:
                await self._pass_on(live, delivery, timeout)
        except TimeoutError:
            if not deadline.expired():  # a middleware's own
                raise
            if not delivery.confirmed:
                if delivery.handed_over:
                    live.supervisor.unanswered()
                raise late(delivery, live.supervisor.outage, timeout) from None
        finally:
            live.window.release(delivery)

    async def _deliver_chunk(self, chunk: Chunk, timeout: float) -> None:
        end = asyncio.get_running_loop().time() + timeout
        live = self._here()
        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout_at(end) as deadline:
                chunk.deadlines.add(deadline)
                await chunk.in_turn()
                for index, delivery in chunk.deliveries.items():
                    session = await live.supervisor.session(timeout)
                    await live.window.admit_when_possible(delivery)
                    task = asyncio.create_task(self._deliver_one(live, chunk, index, timeout))
                    # Not in the task itself: it may be cancelled before its first line.
                    task.add_done_callback(partial(live.window.done, delivery))
                    tasks.append(task)
                    if not session.trusts(delivery.message):  # the ones behind it must not overtake it
                        await task
                chunk.all_begun.set()
                await asyncio.gather(*tasks)
        except (TimeoutError, BrokerUnavailable) as error:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            if any(delivery.handed_over for _, delivery in chunk.unsettled()):
                live.supervisor.unanswered()
            for index, delivery in chunk.unsettled():
                if isinstance(error, BrokerUnavailable) and not delivery.handed_over:
                    chunk.errors[index] = unavailable(delivery, error)
                else:
                    chunk.errors[index] = late(delivery, live.supervisor.outage, timeout)
        finally:
            chunk.deadlines.discard(deadline)
            chunk.all_begun.set()

    async def _deliver_one(self, live: _Live, chunk: Chunk, index: int, timeout: float) -> None:
        delivery = chunk.deliveries[index]
        try:
            await self._pass_on(live, delivery, timeout)
        except PublishError as error:
            chunk.errors[index] = error
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001
            # A middleware's own; the other messages go on.
            chunk.errors[index] = middleware_failed(delivery, error)
        chunk.settled += 1
        chunk.progress(asyncio.get_running_loop().time() + timeout)

    async def _pass_on(self, live: _Live, delivery: Delivery, timeout: float) -> None:
        await live.backend.process(delivery, partial(self._transmit, live, delivery, timeout))
        if not delivery.confirmed:
            raise swallowed(delivery)

    async def _transmit(self, live: _Live, delivery: Delivery, patience: float, message: Message) -> None:
        while True:
            try:
                session = await live.supervisor.session(patience)
            except BrokerUnavailable as error:
                raise unavailable(delivery, error) from None
            try:
                await session.transmit(message, delivery)
            except NotSent:
                # Certainly not sent, so it is tried again; the pause lets the supervisor see the loss.
                await asyncio.sleep(0.005)
            except (MessageUnroutable, MessageRejected):
                live.supervisor.answered()
                raise
            else:
                live.supervisor.answered()
                delivery.confirmed = True
                return


class _Live:
    """What belongs to one loop: gone with it, left alone after a fork."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.supervisor = Supervisor(backend)
        self.window = Window(backend.settings)
        self._shutdown_timeout = backend.settings.shutdown_timeout

    async def close(self, timeout: float | None = None) -> None:
        """Give what is in flight its time to be confirmed, then close within the rest."""
        limit = self._shutdown_timeout if timeout is None else timeout
        closing_time = min(CLOSING_TIME, limit / 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit - closing_time):
                await self.window.emptied()
        # Not cancelled when its time is over: what is left of the closing goes on while the loop runs.
        closing = asyncio.get_running_loop().create_task(self.supervisor.close())
        await asyncio.wait([closing], timeout=closing_time)


def _abandon(bulk: Bulk, under_way: deque[tuple[Chunk, Any]]) -> None:
    """Drop what is under way, for a caller who does not wait for it."""
    bulk.stop()
    for _, call in under_way:
        call.cancel()
    under_way.clear()
