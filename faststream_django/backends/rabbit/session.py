"""One AMQP connection that publishes, with a channel for each exchange."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from faststream_django.backends.base import NotSent, Publication, Request, Session, Settled
from faststream_django.backends.rabbit.channel import PublishChannel
from faststream_django.backends.rabbit.connection import RabbitConnection
from faststream_django.backends.rabbit.errors import why_closed
from faststream_django.backends.rabbit.exchange_publisher import ExchangePublisher, ExchangePublishers
from faststream_django.backends.rabbit.fast_channel import FastChannel
from faststream_django.backends.rabbit.plain_channel import PlainChannel
from faststream_django.backends.rabbit.protocol import REPLIES
from faststream_django.backends.rabbit.reply_channel import FastReplyChannel, PlainReplyChannel
from faststream_django.backends.rabbit.topology import Topology, declare_now
from faststream_django.conf.topology import ExchangeSettings, QueueSettings
from faststream_django.messages.message import Message

__all__ = ["RabbitSession"]

logger = logging.getLogger("faststream_django.connection")

# Bytes of a frame where the broker sets no limit (frame_max = 0).
FRAME_MAX = 128 * 1024
# Seconds between two looks whether the broker is still blocked, without a wire.
BLOCKED_PAUSE = 0.05


class RabbitSession(Session):
    """One AMQP connection with a channel for each exchange that is published to, and one more for requests.

    The messages for one exchange cannot hurt those for another. The order of messages is kept for each
    exchange, which is what AMQP 0-9-1 promises.
    """

    def __init__(self, connection: RabbitConnection, topology: Topology, declare_limit: float) -> None:
        self._connection = connection
        self._topology = topology
        self._declare_limit = declare_limit
        self._is_ready = not topology
        self._declaring = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        connection.closing.add_done_callback(self._on_close)
        if connection.wire is not None:
            connection.wire.on_change = self._flush_all
        # One channel is kept for declarations.
        self._publishers = ExchangePublishers(
            self._open_channel, max(1, connection.channel_max - 1), self._open_reply_channel
        )
        self._to_flush: set[ExchangePublisher] = set()
        self._topology_errors: dict[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._answered_at = 0.0

    def begin_to_declare(self) -> None:
        """Begin to declare what the settings name; messages wait for it, within the limit."""
        if self._topology:
            self._in_background(self._declare())

    def post(
        self, message: Message, publication: Publication, on_settled: Settled, *, more: bool = False
    ) -> None:
        if self.closed.done():
            on_settled(publication, NotSent(self.closed.result()))
            return
        publication.sent_as, publication.on_settled, publication.channel = message, on_settled, None
        self._submit(publication, self._publishers[message.exchange], more=more)

    def request(self, message: Message, request: Request, on_settled: Settled) -> None:
        if self.closed.done():
            on_settled(request, NotSent(self.closed.result()))
            return
        request.sent_as = replace(message, reply_to=REPLIES)
        request.on_settled, request.channel = on_settled, None
        request.reply, request.is_routed = None, False  # a middleware may send it again
        self._submit(request, self._publishers.of_requests(message.exchange), more=False)

    def _submit(self, publication: Publication, publisher: ExchangePublisher, *, more: bool) -> None:
        is_alone = not more and publisher.is_idle
        publisher.pending[publication] = None
        if is_alone and self._is_ready and self._may_write():
            publisher.flush()
        elif publisher not in self._to_flush:
            # What comes in the same round of the loop is written together.
            if not self._to_flush:
                self._loop.call_soon(self._flush)
            self._to_flush.add(publisher)

    def _may_write(self) -> bool:
        wire = self._connection.wire
        return self._connection.is_writable if wire is None else wire.may_write()

    def withdraw(self, publication: Publication) -> None:
        self._publishers.withdraw(publication)

    def what_holds(self, publication: Publication) -> str:
        if not self._is_ready:
            return "the queues and exchanges of FASTSTREAM are still being declared"
        return self._publishers.what_holds(publication)

    @property
    def is_blocked(self) -> bool:
        return self._connection.is_blocked

    @property
    def heard_at(self) -> float:
        wire = self._connection.wire
        return self._answered_at if wire is None else wire.heard_at

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._publishers.lose(reason)
        self._in_background(self._connection.close(ConnectionResetError(reason)))

    async def close(self) -> None:
        await self._connection.close()

    def _flush(self) -> None:
        publishers, self._to_flush = self._to_flush, set()
        if not self._is_ready:
            return
        if self._may_write():
            for publisher in publishers:
                publisher.flush()
        elif self._connection.wire is None:  # nobody will tell
            self._loop.call_later(BLOCKED_PAUSE, self._flush_all)

    def _flush_all(self) -> None:
        """Go on after the broker was blocked, the socket full, or the topology not declared."""
        if self._is_ready and self._may_write():
            self._publishers.flush()

    async def declare(
        self,
        queues: tuple[QueueSettings, ...],
        exchanges: tuple[ExchangeSettings, ...],
        *,
        passive: bool = False,
    ) -> dict[str, str]:
        # It goes on for a caller who goes away: the channel must be closed in order.
        declaring = self._loop.create_task(self._declare_now(queues, exchanges, passive=passive))
        self._tasks.add(declaring)
        declaring.add_done_callback(self._tasks.discard)
        return await asyncio.shield(declaring)

    async def _declare_now(
        self, queues: tuple[QueueSettings, ...], exchanges: tuple[ExchangeSettings, ...], *, passive: bool
    ) -> dict[str, str]:
        try:
            async with self._declaring:
                reasons = await declare_now(
                    self._connection.open_declaring_channel, queues, exchanges, passive=passive
                )
        except (ConnectionError, AMQPError, ChannelInvalidStateError) as error:
            raise NotSent(str(error)) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotSent("the connection was lost") from error
        if not reasons:
            for name in (*(each.name for each in queues), *(each.name for each in exchanges)):
                self._topology_errors.pop(name, None)
        return reasons

    async def _declare(self) -> None:
        timer = self._loop.call_later(self._declare_limit, self._go_on)
        try:
            async with self._declaring:
                await self._topology.declare(self._connection.open_declaring_channel, self._topology_errors)
        except (ConnectionError, AMQPError, ChannelInvalidStateError):  # the session ends
            return
        except Exception:
            logger.exception("broker=%s declaring failed", self._topology.alias)
        finally:
            timer.cancel()
            self._become_ready()

    def _go_on(self) -> None:
        logger.warning(
            "broker=%s declaring takes longer than %gs: messages are sent meanwhile",
            self._topology.alias,
            self._declare_limit,
        )
        self._become_ready()

    def _become_ready(self) -> None:
        self._is_ready = True
        if not self.closed.done():
            self._flush_all()

    def _in_background(self, closing: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(closing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_channel(self, on_answer: Callable[[], None]) -> PublishChannel:
        with self._opening_errors():
            channel = await self._connection.open_channel()
        wire, frame_max = self._connection.wire, self._frame_max
        if wire is None:
            return PlainChannel(channel, partial(self._hear, on_answer), self._topology_errors, frame_max)
        return FastChannel(channel, on_answer, self._topology_errors, wire, frame_max)

    async def _open_reply_channel(self, on_answer: Callable[[], None]) -> PublishChannel:
        with self._opening_errors():
            channel = await self._connection.open_channel()
            wire, frame_max = self._connection.wire, self._frame_max
            reply_channel: PlainReplyChannel | FastReplyChannel
            if wire is None:
                on_answer = partial(self._hear, on_answer)
                reply_channel = PlainReplyChannel(channel, on_answer, self._topology_errors, frame_max)
            else:
                reply_channel = FastReplyChannel(channel, on_answer, self._topology_errors, wire, frame_max)
            await reply_channel.consume()
        return reply_channel

    @property
    def _frame_max(self) -> int:
        return self._connection.connection_tune.frame_max or FRAME_MAX

    @contextmanager
    def _opening_errors(self) -> Iterator[None]:
        if self.closed.done() or self._connection.is_closed:
            raise NotSent("the connection is closed")
        try:
            yield
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotSent("the connection was lost while a channel was opened") from error
        except Exception as error:
            raise NotSent(f"no channel: {type(error).__name__}") from error

    def _hear(self, on_answer: Callable[[], None]) -> None:
        self._answered_at = time.monotonic()
        on_answer()

    def _on_close(self, closing: asyncio.Future[Any]) -> None:
        if self.closed.done():
            return
        reason = why_closed(closing)
        self.closed.set_result(reason)
        self._publishers.lose(reason)
