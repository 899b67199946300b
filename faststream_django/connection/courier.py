"""Delivers the messages of one connection, on the loop thread: limits, deadlines, retries, verdicts.

Knows no Django and no driver. What belongs to one loop is here and in what it holds: it is gone with the
loop, and left alone after a fork.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from faststream_django.backends.base import Backend, Delivery, NotSent, Session, Settled, Verdict
from faststream_django.backends.turns import Turns
from faststream_django.connection.bulk import Chunk
from faststream_django.connection.declaring import Wanted, declare
from faststream_django.connection.errors import (
    broken,
    late,
    middleware_failed,
    of_its_own,
    repeated,
    stopped,
    swallowed,
    unavailable,
)
from faststream_django.connection.supervisor import Supervisor
from faststream_django.connection.window import Window
from faststream_django.exceptions import BrokerUnavailable, PublishError, TooManyInFlight
from faststream_django.messages.message import Message

__all__ = ["Courier"]

logger = logging.getLogger("faststream_django.publish")

# The part of SHUTDOWN_TIMEOUT that is kept for the closing handshake.
CLOSING_TIME = 1.0

Done = Callable[[Delivery, BaseException | None], None]


class Courier:
    """Sends through the session that its supervisor keeps alive, within the window of what may fly.

    A message has a task of its own only where a middleware is to see it.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._supervisor = Supervisor(backend)
        self._window = Window(backend.settings)
        self._shutdown_timeout = backend.settings.shutdown_timeout
        self._tasks: dict[Delivery, asyncio.Task[None]] = {}
        self._turns = Turns()

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the running loop."""
        return self._loop is asyncio.get_running_loop()

    @property
    def is_connected(self) -> bool:
        return self._supervisor.is_connected

    def start(self) -> None:
        """Begin to connect."""
        self._supervisor.start()

    async def close(self, timeout: float | None = None) -> None:
        """Give what is in flight its time to be confirmed, then close; within `timeout` seconds.

        Whoever still waits then is told what is known.
        """
        limit = self._shutdown_timeout if timeout is None else timeout
        closing_time = min(CLOSING_TIME, limit / 2)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit - closing_time):
                    await self._window.emptied()
            # Not cancelled when its time is over: what is left of the closing goes on while the loop runs.
            closing = self._loop.create_task(self._supervisor.close())
            await asyncio.wait([closing], timeout=closing_time)
        finally:
            for delivery in self._window.close():
                self.drop(delivery, None if delivery.confirmed else stopped(delivery))

    async def declare(self, wanted: Wanted) -> None:
        """Declare on the session of the moment, or on the next; see declaring.declare()."""
        await declare(wanted, self._supervisor)

    def send(self, delivery: Delivery, done: Done, context: contextvars.Context | None = None) -> None:
        """Have `done` called once: with None when the message is confirmed, else with what is known.

        That is a PublishError, or what a middleware raised. There is no time limit: see expire().
        """
        try:
            self._window.admit(delivery)
        except TooManyInFlight as error:
            done(delivery, error)
            return
        self._begin(delivery, done, context)

    def expire(self, delivery: Delivery) -> None:
        """Conclude a delivery whose time is over."""
        if delivery.done is None:
            return
        error = None if delivery.confirmed else self._late(delivery)
        self._supervisor.waited_in_vain(delivery, delivery.timeout)
        self.drop(delivery, error)
        if error is not None and delivery.posted_at:
            self._supervisor.unanswered(delivery.posted_at)

    def drop(self, delivery: Delivery, error: BaseException | None = None) -> None:
        """Stop a delivery: what was not sent is not sent any more."""
        if delivery.done is None:
            return
        delivery.given_up = True  # also if a middleware ignores that it is cancelled
        self._withdraw(delivery)
        task = self._tasks.pop(delivery, None)
        self._finish(delivery, error)
        if task is not None:
            self._end_turn(delivery)
            task.cancel()

    async def deliver_chunk(self, chunk: Chunk, end: float, *, early: bool = False) -> None:
        """Deliver the messages of a chunk, pipelined and in their order; each verdict is in the chunk.

        The time is over when the loop's reaches `end`, which each verdict puts off. With `early` the
        chunk may grow and is delivered again: this is about what waits in it now.
        """
        try:
            async with asyncio.timeout_at(end) as deadline:
                chunk.deadlines.add(deadline)
                async with chunk.beginning:
                    await chunk.in_turn()
                    await self._begin_chunk(chunk)
                if not early:
                    chunk.all_begun.set()
                await chunk.begun_settled()
        except BrokerUnavailable:  # stopped; what is in flight was told by close()
            for delivery in () if early else chunk.unsettled():
                chunk.settle(delivery, stopped(delivery))
        except TimeoutError:
            for delivery in chunk.unsettled():
                if delivery.done is not None:
                    self.expire(delivery)
                elif not early:
                    chunk.settle(delivery, self._late(delivery))
        finally:
            chunk.deadlines.discard(deadline)
            if not early:
                chunk.all_begun.set()
                for delivery in chunk.deliveries:  # after a cancellation: nobody waits
                    self.drop(delivery)

    async def _begin_chunk(self, chunk: Chunk) -> None:
        settle = partial(_settle, chunk)
        while chunk.begun < len(chunk.deliveries):
            delivery = chunk.deliveries[chunk.begun]
            await self._window.admit_when_possible(delivery)
            chunk.begun += 1
            self._begin(delivery, settle, more=True)

    def _begin(
        self,
        delivery: Delivery,
        done: Done,
        context: contextvars.Context | None = None,
        *,
        more: bool = False,
    ) -> None:
        delivery.done = done
        try:
            is_direct = self._backend.is_direct
        except Exception as error:  # noqa: BLE001 - it makes FastStream's broker of the OPTIONS
            self._finish(delivery, broken(delivery, error))
            return
        if is_direct:
            self._post(delivery, delivery.message, self._conclude, more=more)
            return
        if delivery.caller is not None:
            delivery.turn = self._turns.take(delivery.caller, delivery.message.exchange)
        self._tasks[delivery] = self._loop.create_task(self._process(delivery), context=context)

    def _post(self, delivery: Delivery, message: Message, settled: Settled, *, more: bool = False) -> None:
        """Send on the session of the moment, or on the next."""

        def post_on(session: Session | BrokerUnavailable) -> None:
            if isinstance(session, BrokerUnavailable):
                settled(delivery, unavailable(delivery, session))
            else:
                delivery.posted_at = time.monotonic()
                try:
                    session.post(message, delivery, settled, more=more)
                except Exception as error:
                    logger.exception("broker=%s message_id=%r", delivery.broker, message.message_id)
                    self._withdraw(delivery)
                    settled(delivery, broken(delivery, error))

        self._supervisor.ask(delivery, delivery.timeout, post_on)

    def _withdraw(self, delivery: Delivery) -> None:
        """Keep a message from the supervisor and the session, where it is not sent or answered any more."""
        self._supervisor.forget(delivery)
        session = self._supervisor.current
        if session is not None:
            try:
                session.withdraw(delivery)
            except Exception:
                logger.exception("broker=%s message_id=%r", delivery.broker, delivery.message.message_id)

    def _conclude(self, delivery: Delivery, verdict: Verdict) -> None:
        """Take the verdict on a message that went directly to the session."""
        if delivery.done is None:  # its time was over before
            return
        if isinstance(verdict, NotSent):
            self._post(delivery, delivery.message, self._conclude)
            return
        if verdict is None:
            delivery.confirmed = True
        self._finish(delivery, verdict)

    async def _process(self, delivery: Delivery) -> None:
        """Through the middlewares to the broker."""
        error: BaseException | None = None
        try:
            await self._backend.process(delivery, partial(self._transmit, delivery))
            if not delivery.confirmed:
                error = swallowed(delivery)
        except BaseException as raised:  # noqa: BLE001 - SystemExit would end the loop for every caller
            error = raised
        if error is not None and delivery.is_uncertain:
            if not isinstance(error, PublishError):
                error.add_note(f"The broker may have message {delivery.message.message_id}.")
            elif not error.maybe_sent:
                error = repeated(delivery, error)
        self._end_turn(delivery)
        if self._tasks.pop(delivery, None) is not None:
            self._finish(delivery, error)

    async def _transmit(self, delivery: Delivery, message: Message) -> None:
        """Send what the middlewares have made of the message. They may do that several times."""
        outcome: asyncio.Future[PublishError | None] = self._loop.create_future()

        def settled(_: Delivery, verdict: Verdict) -> None:
            if outcome.done():
                return
            if isinstance(verdict, NotSent):  # here, where the lost ones are told in their order
                self._post(delivery, message, settled)
            else:
                outcome.set_result(verdict)

        try:
            if delivery.turn is not None:
                await delivery.turn.came.wait()
            self._post(delivery, message, settled)
            self._end_turn(delivery)
            verdict = await outcome
        except asyncio.CancelledError:  # a middleware has a time limit of its own
            self._withdraw(delivery)
            delivery.in_doubt = delivery.is_uncertain
            raise
        if verdict is not None and not verdict.maybe_sent:
            delivery.handed_over = False
            raise verdict
        delivery.in_doubt = True
        if verdict is not None:
            raise verdict
        delivery.confirmed = True

    def _end_turn(self, delivery: Delivery) -> None:
        turn, delivery.turn = delivery.turn, None
        if turn is not None:
            self._turns.end(turn)

    def _finish(self, delivery: Delivery, error: BaseException | None) -> None:
        self._window.release(delivery)
        if isinstance(error, PublishError):
            error = of_its_own(delivery, error)
        done, delivery.done = delivery.done, None
        if done is not None:
            done(delivery, error)

    def _late(self, delivery: Delivery) -> PublishError:
        supervisor, session = self._supervisor, self._supervisor.current
        reason = "" if session is None else session.what_holds(delivery)
        return late(delivery, supervisor.outage, blocked=supervisor.is_blocked, reason=reason)


def _settle(chunk: Chunk, delivery: Delivery, error: BaseException | None) -> None:
    if isinstance(error, asyncio.CancelledError):  # the loop ends, as the caller will see
        return
    if error is not None and not isinstance(error, PublishError):
        error = middleware_failed(delivery, error)  # the other messages go on
    chunk.settle(delivery, error)
