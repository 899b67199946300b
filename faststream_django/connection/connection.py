"""One connection to one broker, for threads and tasks: two doors to the courier on the loop thread.

Knows no Django and no driver.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from faststream_django.async_unsafe import refuse_event_loop
from faststream_django.backends.base import Backend, Publication, Request
from faststream_django.conf.entries import BrokerSettings
from faststream_django.connection.bulk import BulkResult, Chunk, Item
from faststream_django.connection.courier import Courier
from faststream_django.connection.declaring import Wanted, read_wanted, told
from faststream_django.connection.errors import conclude
from faststream_django.connection.pipeline import Pipeline
from faststream_django.connection.sender import aignore, ignore
from faststream_django.loop.calls import GRACE, Call, CoroutineJob, LoopStalled, LoopStopped
from faststream_django.loop.imports import quiet
from faststream_django.loop.thread import LoopThread, loop_thread
from faststream_django.messages.message import Message
from faststream_django.messages.reply import Reply

__all__ = ["Connection"]

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
        self._run(publication)

    async def asend(
        self,
        message: Message,
        timeout: float | None = None,
        caller: object = None,
        *,
        processed: bool = False,
    ) -> None:
        """See send(). The messages of one `caller` for one exchange leave in the order of the calls.

        With `processed` the message has been through the publish middlewares, and they do not see it again.
        """
        publication = Publication(
            message,
            self.settings.alias,
            self._timeout_or_default(timeout),
            caller=caller,
            is_processed=processed,
        )
        await self._arun(publication)

    def request(self, message: Message, timeout: float | None = None) -> Reply:
        """Send a message and return its reply; raise PublishError within `timeout` seconds.

        What belongs to it is its `correlation_id`, which must be its own.
        """
        request = Request(message, self.settings.alias, self._timeout_or_default(timeout))
        self._loop.refuse_itself()
        self._run(request)
        return _reply(request)

    async def arequest(
        self, message: Message, timeout: float | None = None, *, processed: bool = False
    ) -> Reply:
        """See request(); for `processed` see asend()."""
        request = Request(
            message, self.settings.alias, self._timeout_or_default(timeout), is_processed=processed
        )
        await self._arun(request)
        return _reply(request)

    def _run(self, publication: Publication) -> None:
        try:
            self._loop.run_job(PublishJob(self, publication), publication.timeout, GRACE)
        except (LoopStalled, LoopStopped) as error:
            conclude(publication, error, connected=self.is_connected)

    async def _arun(self, publication: Publication) -> None:
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
        pipeline.EARLY_AFTER seconds.
        """
        self._loop.refuse_itself()
        return self._pipeline(timeout).send(items, on_settled)

    async def asend_many(
        self,
        items: AsyncIterable[Item],
        timeout: float | None = None,
        on_settled: Callable[[Chunk], Awaitable[None]] = aignore,
    ) -> BulkResult:
        """See send_many(). When its task is cancelled it ends at once."""
        return await self._pipeline(timeout).asend(items, on_settled)

    def declare(
        self,
        queues: Any = None,
        exchanges: Any = None,
        *,
        timeout: float | None = None,
        passive: bool = False,
    ) -> None:
        """Declare queues, exchanges and bindings; return once the broker has answered.

        Both take what QUEUES and EXCHANGES take in the settings; DECLARE does not matter here. Declaring
        something that already exists with the same properties changes nothing. Later connections do not
        repeat the declaration. With ``passive`` nothing is declared: what does not exist is refused, and
        what exists is accepted whatever its properties. Raises, within `timeout` seconds (default: TIMEOUT),
        InvalidDeclaration, BrokerUnavailable (nothing was declared), DeclarationRefused (everything else was
        declared) or DeclarationTimeout (the outcome is unknown).
        """
        wanted = read_wanted(self.settings, queues, exchanges, timeout, passive=passive)
        refuse_event_loop()
        with told(wanted):
            self._loop.run(self._declare, wanted, timeout=wanted.timeout + GRACE)

    async def adeclare(
        self,
        queues: Any = None,
        exchanges: Any = None,
        *,
        timeout: float | None = None,
        passive: bool = False,
    ) -> None:
        """See declare()."""
        wanted = read_wanted(self.settings, queues, exchanges, timeout, passive=passive)
        with told(wanted):
            await self._loop.arun_job(CoroutineJob(self._declare, (wanted,)), wanted.timeout + GRACE)

    def _timeout_or_default(self, timeout: float | None) -> float:
        return self.settings.timeout if timeout is None else timeout

    def _pipeline(self, timeout: float | None) -> Pipeline:
        return Pipeline(self, self._loop, self._timeout_or_default(timeout))

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

    def courier_here(self) -> Courier:
        """Return the courier of this loop; the one that another loop left behind is not touched."""
        courier = self._courier
        if courier is None or not courier.is_here:
            courier = self._courier = Courier(self._make_backend())
            self._loop.add_closer(courier.close, self.settings.shutdown_timeout)
        return courier


def _wait_for_nothing() -> None:
    """Return at once."""


def _reply(request: Request) -> Reply:
    return cast("Reply", request.reply)  # a request that is done has it


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
