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

from faststream_django.backends.base import (
    Backend,
    NotSent,
    Publication,
    Request,
    Session,
    Settled,
    Verdict,
)
from faststream_django.connection.bulk import Chunk
from faststream_django.connection.declaring import Wanted, declare
from faststream_django.connection.errors import (
    broken,
    late,
    middleware_failed,
    of_its_own,
    stopped,
    unavailable,
)
from faststream_django.connection.middlewares import Middlewares
from faststream_django.connection.supervisor import Supervisor
from faststream_django.connection.window import Window
from faststream_django.exceptions import BrokerUnavailable, PublishError, TooManyInFlight
from faststream_django.messages.message import Message

__all__ = ["Courier"]

logger = logging.getLogger("faststream_django.publish")

# The part of SHUTDOWN_TIMEOUT that is kept for the closing handshake.
CLOSING_TIME = 1.0

Done = Callable[[Publication, BaseException | None], None]


class Courier:
    """Sends through the session that its supervisor keeps alive, within the window of what may fly.

    Where there are middlewares, they see each message first.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._is_direct: bool | None = None
        self._loop = asyncio.get_running_loop()
        self._supervisor: Supervisor[Session] = Supervisor(backend)
        self._window = Window(backend.settings)
        # Their own, since replies may take long: the places of other messages are not theirs.
        self._window_of_requests = Window(backend.settings, "replies", "The handlers are")
        self._shutdown_timeout = backend.settings.shutdown_timeout
        self._middlewares: Middlewares | None = None

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
        timeout = self._shutdown_timeout if timeout is None else timeout
        closing_time = min(CLOSING_TIME, timeout / 2)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout - closing_time):
                    await self._window.emptied()
                    await self._window_of_requests.emptied()
            # Not cancelled when its time is over: what is left of the closing goes on while the loop runs.
            closing = self._loop.create_task(self._supervisor.close())
            await asyncio.wait([closing], timeout=closing_time)
        finally:
            for publication in (*self._window.close(), *self._window_of_requests.close()):
                self.drop(publication, None if publication.is_done else stopped(publication))

    async def declare(self, wanted: Wanted) -> None:
        """Declare on the session of the moment, or on the next; see declaring.declare()."""
        await declare(wanted, self._supervisor)

    def send(
        self, publication: Publication, on_done: Done, context: contextvars.Context | None = None
    ) -> None:
        """Have `on_done` called once: with None when the message is confirmed, else with what is known.

        That is a PublishError, or what a middleware raised. There is no time limit: see expire(). A
        `Request` has its reply when `on_done` is called with None.
        """
        window = self._window_of_requests if isinstance(publication, Request) else self._window
        try:
            window.admit(publication)
        except TooManyInFlight as error:
            on_done(publication, error)
            return
        self._begin(publication, on_done, context)

    def expire(self, publication: Publication) -> None:
        """Conclude a publication whose time is over."""
        if publication.on_done is None:
            return
        error = None if publication.is_done else self._late(publication)
        self._supervisor.waited_in_vain(publication, publication.timeout)
        self.drop(publication, error)
        if error is not None and publication.posted_at:
            self._supervisor.unanswered(publication.posted_at)

    def drop(self, publication: Publication, error: BaseException | None = None) -> None:
        """Stop a publication: what was not sent is not sent any more."""
        if publication.on_done is None:
            return
        publication.given_up = True  # also if a middleware ignores that it is cancelled
        self._withdraw(publication)
        self._finish(publication, error)
        if self._middlewares is not None:
            self._middlewares.cancel(publication)

    async def deliver_chunk(self, chunk: Chunk, deadline: float, *, early: bool = False) -> None:
        """Deliver the messages of a chunk, pipelined and in their order; each verdict is in the chunk.

        The time is over when the loop's reaches `deadline`, which each verdict puts off. With `early` the
        chunk may grow and is delivered again: this is about what waits in it now.
        """
        try:
            async with asyncio.timeout_at(deadline) as timer:
                chunk.timers.add(timer)
                async with chunk.beginning:
                    await chunk.in_turn()
                    await self._begin_chunk(chunk)
                if not early:
                    chunk.all_begun.set()
                await chunk.begun_settled()
        except BrokerUnavailable:  # stopped; what is in flight was told by close()
            for publication in () if early else chunk.unsettled():
                chunk.settle(publication, stopped(publication))
        except TimeoutError:
            for publication in chunk.unsettled():
                if publication.on_done is not None:
                    self.expire(publication)
                elif not early:
                    chunk.settle(publication, self._late(publication))
        finally:
            chunk.timers.discard(timer)
            if not early:
                chunk.all_begun.set()
                for publication in chunk.publications:  # after a cancellation: nobody waits
                    self.drop(publication)

    async def _begin_chunk(self, chunk: Chunk) -> None:
        settle = partial(_settle, chunk)
        while chunk.begun < len(chunk.publications):
            publication = chunk.publications[chunk.begun]
            while not self._window.admit_of_bulk(publication):
                await self._window.room_for_bulk()
            chunk.begun += 1
            self._begin(publication, settle, more=True)

    def _begin(
        self,
        publication: Publication,
        on_done: Done,
        context: contextvars.Context | None = None,
        *,
        more: bool = False,
    ) -> None:
        publication.on_done = on_done
        try:
            if self._is_direct is None:
                self._is_direct = self._backend.is_direct
            is_direct = self._is_direct
            if isinstance(publication, Request):
                is_direct = self._backend.is_direct_for_requests
        except Exception as error:  # noqa: BLE001 - it makes FastStream's broker of the OPTIONS
            self._finish(publication, broken(publication, error))
            return
        if is_direct or publication.is_processed:
            self._post(publication, publication.message, self._conclude, more=more)
            return
        if self._middlewares is None:
            self._middlewares = Middlewares(self._backend, self._post, self._withdraw, self._finish)
        self._middlewares.start(publication, context)

    def _post(
        self, publication: Publication, message: Message, on_settled: Settled, *, more: bool = False
    ) -> None:
        """Send on the session of the moment, or on the next."""

        def post_on(session: Session | BrokerUnavailable) -> None:
            if isinstance(session, BrokerUnavailable):
                on_settled(publication, unavailable(publication, session))
            else:
                publication.posted_at = time.monotonic()
                try:
                    if isinstance(publication, Request):
                        session.request(message, publication, on_settled)
                    else:
                        session.post(message, publication, on_settled, more=more)
                except Exception as error:
                    logger.exception("broker=%s message_id=%r", publication.broker, message.message_id)
                    self._withdraw(publication)
                    on_settled(publication, broken(publication, error))

        self._supervisor.request_session(publication, publication.timeout, post_on)

    def _withdraw(self, publication: Publication) -> None:
        """Keep a message from the supervisor and the session, where it is not sent or answered any more."""
        self._supervisor.withdraw_request(publication)
        session = self._supervisor.current
        if session is not None:
            try:
                session.withdraw(publication)
            except Exception:
                logger.exception(
                    "broker=%s message_id=%r", publication.broker, publication.message.message_id
                )

    def _conclude(self, publication: Publication, verdict: Verdict) -> None:
        """Take the verdict on a message that went directly to the session."""
        if publication.on_done is None:  # its time was over before
            return
        if isinstance(verdict, NotSent):
            self._post(publication, publication.message, self._conclude)
            return
        if verdict is None:
            publication.confirmed = True
        self._finish(publication, verdict)

    def _finish(self, publication: Publication, error: BaseException | None) -> None:
        window = self._window_of_requests if isinstance(publication, Request) else self._window
        window.release(publication)
        if isinstance(error, PublishError):
            error = of_its_own(publication, error)
        on_done, publication.on_done = publication.on_done, None
        if on_done is not None:
            on_done(publication, error)

    def _late(self, publication: Publication) -> PublishError:
        supervisor, session = self._supervisor, self._supervisor.current
        reason = "" if session is None else session.what_holds(publication)
        return late(publication, supervisor.outage, blocked=supervisor.is_blocked, reason=reason)


def _settle(chunk: Chunk, publication: Publication, error: BaseException | None) -> None:
    if isinstance(error, asyncio.CancelledError):  # the loop ends, as the caller will see
        return
    if error is not None and not isinstance(error, PublishError):
        error = middleware_failed(publication, error)  # the other messages go on
    chunk.settle(publication, error)
