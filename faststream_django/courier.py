"""Delivers the messages of one connection, on the loop thread: limits, deadlines, retries, verdicts.

Knows no Django and no driver. What belongs to one loop is here and in what it holds: it is gone with the
loop, and left alone after a fork.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from faststream_django.backends.base import Backend, Delivery, NotSent
from faststream_django.bulk import Chunk
from faststream_django.exceptions import (
    BrokerUnavailable,
    MessageRejected,
    MessageUnroutable,
    PublishError,
)
from faststream_django.messages import Message
from faststream_django.outcomes import late, middleware_failed, swallowed, unavailable
from faststream_django.supervisor import Supervisor
from faststream_django.window import Window

__all__ = ["Courier"]

# The part of SHUTDOWN_TIMEOUT that is kept for the closing handshake.
CLOSING_TIME = 1.0
# Seconds before a message that was certainly not sent is tried again: the supervisor has to see the loss.
RETRY_PAUSE = 0.005


class Courier:
    """Sends through the session that its supervisor keeps alive, within the window of what may fly."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._supervisor = Supervisor(backend)
        self._window = Window(backend.settings)
        self._shutdown_timeout = backend.settings.shutdown_timeout

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the running loop."""
        return self._supervisor.loop is asyncio.get_running_loop()

    @property
    def is_connected(self) -> bool:
        return self._supervisor.is_connected

    def start(self) -> None:
        """Begin to connect."""
        self._supervisor.start()

    async def close(self, timeout: float | None = None) -> None:
        """Give what is in flight its time to be confirmed, then close; within `timeout` seconds."""
        limit = self._shutdown_timeout if timeout is None else timeout
        closing_time = min(CLOSING_TIME, limit / 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit - closing_time):
                await self._window.emptied()
        # Not cancelled when its time is over: what is left of the closing goes on while the loop runs.
        closing = asyncio.get_running_loop().create_task(self._supervisor.close())
        await asyncio.wait([closing], timeout=closing_time)

    async def deliver(self, delivery: Delivery, timeout: float, end: float) -> None:
        """Return once the message is confirmed; raise PublishError when the loop's time reaches `end`.

        `timeout` is what the caller gave, in seconds.
        """
        self._window.admit(delivery)
        try:
            async with asyncio.timeout_at(end) as deadline:
                await self._pass_on(delivery, timeout)
        except TimeoutError:
            if not deadline.expired():  # a middleware's own
                raise
            if not delivery.confirmed:
                raise self._late(delivery, timeout) from None
        finally:
            self._window.release(delivery)

    async def deliver_chunk(self, chunk: Chunk, timeout: float, end: float) -> None:
        """Deliver the messages of a chunk, pipelined and in their order; each verdict is in the chunk.

        `end` is put off by `timeout` seconds with each verdict.
        """
        refusal: BrokerUnavailable | None = None
        try:
            async with asyncio.timeout_at(end) as deadline:
                chunk.deadlines.add(deadline)
                async with asyncio.TaskGroup() as group:
                    await chunk.in_turn()
                    refusal = await self._begin_all(chunk, timeout, group)
                    chunk.all_begun.set()
        except TimeoutError:
            pass  # told below, to each message that has no verdict
        finally:
            chunk.all_begun.set()
            chunk.deadlines.discard(deadline)
        for index, delivery in chunk.unsettled():
            if refusal is not None and not delivery.handed_over:
                chunk.errors[index] = unavailable(delivery, refusal)
            else:
                chunk.errors[index] = self._late(delivery, timeout)

    async def _begin_all(
        self, chunk: Chunk, timeout: float, group: asyncio.TaskGroup
    ) -> BrokerUnavailable | None:
        """Give each message its place in the line; return why if there is no session for the rest."""
        for index, delivery in chunk.deliveries.items():
            try:
                await self._supervisor.session(timeout)
            except BrokerUnavailable as error:
                return error
            await self._window.admit_when_possible(delivery)
            task = group.create_task(self._deliver_one(chunk, index, timeout))
            # Not in the task itself: it may be cancelled before its first line.
            task.add_done_callback(partial(self._window.done, delivery))
        return None

    async def _deliver_one(self, chunk: Chunk, index: int, timeout: float) -> None:
        delivery = chunk.deliveries[index]
        try:
            await self._pass_on(delivery, timeout)
        except PublishError as error:
            chunk.errors[index] = error
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001
            # A middleware's own; the other messages go on.
            chunk.errors[index] = middleware_failed(delivery, error)
        chunk.settled += 1
        chunk.progress(asyncio.get_running_loop().time() + timeout)

    async def _pass_on(self, delivery: Delivery, timeout: float) -> None:
        """Through the middlewares to the broker."""
        await self._backend.process(delivery, partial(self._transmit, delivery, timeout))
        if not delivery.confirmed:
            raise swallowed(delivery)

    async def _transmit(self, delivery: Delivery, timeout: float, message: Message) -> None:
        """Send on the session of the moment, again on the next one if it was certainly not sent."""
        while True:
            try:
                session = await self._supervisor.session(timeout)
            except BrokerUnavailable as error:
                raise unavailable(delivery, error) from None
            try:
                await session.transmit(message, delivery)
            except NotSent:
                await asyncio.sleep(RETRY_PAUSE)
            except (MessageUnroutable, MessageRejected):
                self._supervisor.answered()
                raise
            else:
                self._supervisor.answered()
                delivery.confirmed = True
                return

    def _late(self, delivery: Delivery, timeout: float) -> PublishError:
        if delivery.handed_over:
            self._supervisor.unanswered(delivery.handed_over_at)
        return late(delivery, self._supervisor.outage, timeout)
