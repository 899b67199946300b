"""One connection to one broker, for threads and tasks: two doors to the courier on the loop thread.

Knows no Django and no driver.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from faststream_django.async_unsafe import refuse_event_loop
from faststream_django.backends.base import Backend, Publication
from faststream_django.conf.entries import BrokerSettings
from faststream_django.connection.bulk import CHUNKS_UNDER_WAY, Bulk, BulkResult, Chunk, Item
from faststream_django.connection.courier import Courier
from faststream_django.connection.declaring import Wanted, read_wanted, told
from faststream_django.connection.errors import conclude, unanswered
from faststream_django.connection.sender import aignore, ignore
from faststream_django.loop.calls import GRACE, Call, CoroutineJob, LoopStalled, LoopStopped
from faststream_django.loop.imports import quiet
from faststream_django.loop.thread import LoopThread, loop_thread
from faststream_django.messages.message import Message

__all__ = ["Connection"]

# Seconds after which the messages of a bulk leave although the source has not filled their chunk.
EARLY_AFTER = 0.05
# Seconds that start() waits for imports of other threads to end. A program may live in one.
IMPORTS_TIMEOUT = 10.0


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
        self._courier: Courier | None = None
        self._beginning: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "not connected"
        return f"<Connection {self.settings.alias!r}: {state}>"

    @property
    def is_connected(self) -> bool:
        """Whether there was a session a moment ago; a publish is the only real test."""
        return self._courier is not None and self._courier.is_connected

    def start(self) -> None:
        """Begin to connect in the background; return at once, whatever the state of the broker."""
        self._loop.submit(self._begin)

    def stop(self, timeout: float | None = None) -> None:
        """Wait until what is in flight is settled, then close; at most `timeout` seconds.

        The default is SHUTDOWN_TIMEOUT. The next call connects again.
        """
        self._loop.refuse_itself()
        self.begin_stop(timeout)()

    def begin_stop(self, timeout: float | None = None) -> Callable[[], None]:
        """Begin to stop, in any thread, and return at once; what is returned waits for the end of it."""
        timeout = self.settings.shutdown_timeout if timeout is None else timeout
        if not self._loop.is_started:
            return _wait_for_nothing
        deadline = time.monotonic() + timeout + GRACE
        call = self._loop.submit(self._end, timeout)

        def wait() -> None:
            with suppress(LoopStalled, LoopStopped):
                call.wait(deadline - time.monotonic())

        return wait

    def send(self, message: Message, timeout: float | None = None) -> None:
        """Return once the broker has confirmed the message; raise PublishError within `timeout` seconds."""
        publication = Publication(message, self.settings.alias, self._timeout_or_default(timeout))
        self._loop.refuse_itself()
        try:
            self._loop.run_job(PublishJob(self, publication), publication.timeout, GRACE)
        except (LoopStalled, LoopStopped) as error:
            conclude(publication, error, connected=self.is_connected)

    async def asend(self, message: Message, timeout: float | None = None, caller: object = None) -> None:
        """See send(). The messages of one `caller` for one exchange leave in the order of the calls."""
        publication = Publication(
            message, self.settings.alias, self._timeout_or_default(timeout), caller=caller
        )
        try:
            await self._loop.arun_job(PublishJob(self, publication), publication.timeout, GRACE)
        except (LoopStalled, LoopStopped) as error:
            conclude(publication, error, connected=self.is_connected)

    def send_many(
        self,
        items: Iterable[Item],
        timeout: float | None = None,
        on_settled: Callable[[Chunk], None] = ignore,
    ) -> BulkResult:
        """Send messages pipelined, in their order, in constant memory.

        `timeout` is the longest time without progress, in seconds. Nothing is raised for a message: the
        result tells what failed, and `on_settled` is called with each chunk that is done. An
        InvalidMessage among the items counts as the failure of its index. Stops early when the
        connection fails. What the iterable raises comes out once all that was sent is settled; so does
        the first Ctrl-C. A source that is slow keeps nothing back: what it gave leaves within
        EARLY_AFTER.
        """
        self._loop.refuse_itself()
        timeout = self._timeout_or_default(timeout)
        bulk = Bulk(self.settings.alias, timeout)
        try:
            if not isinstance(items, list):
                self._loop.submit(self._watch, bulk, timeout, EARLY_AFTER)
            for chunk in bulk.chunks(items):
                chunk.call = self._loop.submit(self._deliver_chunk, chunk, timeout)
                if len(bulk.under_way) >= CHUNKS_UNDER_WAY:
                    self._wait(bulk, timeout, on_settled)
            self._wait_for_rest(bulk, timeout, on_settled)
        except BaseException:
            try:
                self._wait_for_rest(bulk, timeout, on_settled)
            except BaseException:
                bulk.abandon()
                raise
            raise
        return bulk.result

    async def asend_many(
        self,
        items: AsyncIterable[Item],
        timeout: float | None = None,
        on_settled: Callable[[Chunk], Awaitable[None]] = aignore,
    ) -> BulkResult:
        """See send_many(). When its task is cancelled it ends at once."""
        timeout = self._timeout_or_default(timeout)
        bulk = Bulk(self.settings.alias, timeout)
        # Without a wake of the loop thread for a bulk that is done before.
        timer = asyncio.get_running_loop().call_later(
            EARLY_AFTER, self._loop.asubmit, self._watch, bulk, timeout, 0.0
        )
        try:
            async for chunk in bulk.achunks(items):
                chunk.call = self._loop.asubmit(self._deliver_chunk, chunk, timeout)
                if len(bulk.under_way) >= CHUNKS_UNDER_WAY:
                    await on_settled(await self._await(bulk, timeout))
        except (KeyboardInterrupt, asyncio.CancelledError):
            bulk.abandon()
            raise
        finally:
            timer.cancel()
            bulk.rest()
            while bulk.under_way:
                await on_settled(await self._await(bulk, timeout))
        return bulk.result

    def _wait_for_rest(self, bulk: Bulk, timeout: float, on_settled: Callable[[Chunk], None]) -> None:
        bulk.rest()
        while bulk.under_way:
            self._wait(bulk, timeout, on_settled)

    def _wait(self, bulk: Bulk, timeout: float, on_settled: Callable[[Chunk], None]) -> None:
        """Wait for the first chunk that is under way, as long as it makes progress."""
        chunk = bulk.under_way[0]
        # None if an exception came before it was handed over.
        chunk.call = chunk.call or self._loop.submit(self._deliver_chunk, chunk, timeout)
        with self._giving_up(chunk):
            for seconds in chunk.timeouts(timeout + GRACE):
                with suppress(LoopStalled):
                    chunk.call.wait(seconds)
                    break
            else:
                raise LoopStalled
        on_settled(chunk)
        bulk.settle(chunk)  # last: Ctrl-C may come at any line above, and all of them may be repeated

    async def _await(self, bulk: Bulk, timeout: float) -> Chunk:
        """See _wait()."""
        chunk = bulk.under_way[0]
        chunk.call = chunk.call or self._loop.asubmit(self._deliver_chunk, chunk, timeout)
        with self._giving_up(chunk):
            for seconds in chunk.timeouts(timeout + GRACE):
                with suppress(LoopStalled):
                    await chunk.call.wait(seconds)
                    break
            else:
                raise LoopStalled
        return bulk.settle(chunk)

    @contextmanager
    def _giving_up(self, chunk: Chunk) -> Iterator[None]:
        """Tell each message what is known when the loop is silent."""
        try:
            yield
        except (LoopStalled, LoopStopped) as error:
            chunk.call.cancel()
            for publication in chunk.unsettled():
                chunk.errors[publication.index] = unanswered(publication, error, connected=self.is_connected)

    def declare(self, queues: Any = None, exchanges: Any = None, *, timeout: float | None = None) -> None:
        """Declare queues, exchanges and bindings; return once the broker has answered.

        Both take what QUEUES and EXCHANGES take in the settings; DECLARE does not matter here. Declaring
        something that already exists with the same properties changes nothing. Later connections do not
        repeat the declaration. Raises, within `timeout` seconds (default: TIMEOUT), InvalidDeclaration,
        BrokerUnavailable (nothing was declared), DeclarationRefused (everything else was declared) or
        DeclarationTimeout (the outcome is unknown).
        """
        wanted = read_wanted(self.settings.alias, queues, exchanges, self._timeout_or_default(timeout))
        refuse_event_loop()
        with told(wanted):
            self._loop.run(self._declare, wanted, timeout=wanted.timeout + GRACE)

    async def adeclare(
        self, queues: Any = None, exchanges: Any = None, *, timeout: float | None = None
    ) -> None:
        """See declare()."""
        wanted = read_wanted(self.settings.alias, queues, exchanges, self._timeout_or_default(timeout))
        with told(wanted):
            await self._loop.arun_job(CoroutineJob(self._declare, (wanted,)), wanted.timeout + GRACE)

    def _timeout_or_default(self, timeout: float | None) -> float:
        return self.settings.timeout if timeout is None else timeout

    # From here on everything runs on the loop thread.

    async def _begin(self) -> None:
        if self._courier is None:  # nobody waits, so it need not hold up the imports of a site that starts
            self._beginning = asyncio.current_task()
            try:
                await quiet(IMPORTS_TIMEOUT)
            finally:
                self._beginning = None
        self.courier_here().start()

    async def _declare(self, wanted: Wanted) -> None:
        await self.courier_here().declare(wanted)

    async def _end(self, timeout: float) -> None:
        beginning = self._beginning
        if beginning is not None and beginning.get_loop() is asyncio.get_running_loop():
            beginning.cancel()
        courier, self._courier = self._courier, None
        if courier is not None and courier.is_here:
            self._loop.remove_closer(courier.close)
            await courier.close(timeout)

    async def _deliver_chunk(self, chunk: Chunk, timeout: float) -> None:
        # Counted from here: the first call in a process makes the backend, which imports the driver.
        deadline = asyncio.get_running_loop().time() + timeout
        await self.courier_here().deliver_chunk(chunk, deadline)

    async def _watch(self, bulk: Bulk, timeout: float, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay, self._deliver_early, bulk, timeout)

    def _deliver_early(self, bulk: Bulk, timeout: float) -> None:
        """Deliver what waits in the open chunk, again and again, while the caller waits for its source."""
        if bulk.is_fed:
            return
        loop = asyncio.get_running_loop()
        if chunk := bulk.take_early():
            try:
                courier = self.courier_here()
            except Exception:  # noqa: BLE001 - told to the caller when the chunk is handed over
                return
            task = loop.create_task(courier.deliver_chunk(chunk, loop.time() + timeout, early=True))
            bulk.early.add(task)
            task.add_done_callback(bulk.early.discard)
        loop.call_later(EARLY_AFTER, self._deliver_early, bulk, timeout)

    def courier_here(self) -> Courier:
        """Return the courier of this loop; the one that another loop left behind is not touched."""
        courier = self._courier
        if courier is None or not courier.is_here:
            courier = self._courier = Courier(self._make_backend())
            self._loop.add_closer(courier.close, self.settings.shutdown_timeout)
        return courier


def _wait_for_nothing() -> None:
    """Return at once."""


class PublishJob:
    """The job of a call that sends one message."""

    __slots__ = ("_connection", "_courier", "_publication")

    def __init__(self, connection: Connection, publication: Publication) -> None:
        self._connection = connection
        self._publication = publication
        self._courier: Courier | None = None

    def begin(self, call: Call[Any], loop: asyncio.AbstractEventLoop) -> None:  # noqa: ARG002
        def on_done(publication: Publication, error: BaseException | None) -> None:  # noqa: ARG001
            call.settle(error)

        try:
            self._courier = self._connection.courier_here()
            self._courier.send(self._publication, on_done, call.context)
        except BaseException as error:  # noqa: BLE001 - what a backend raises is its caller's
            call.settle(error)

    def expire(self) -> None:
        if self._courier is not None:
            self._courier.expire(self._publication)

    def drop(self) -> None:
        if self._courier is not None:
            self._courier.drop(self._publication)
