"""A subscriber of the embedded broker: what it has in hand, and the tasks in which it handles it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

if TYPE_CHECKING:
    from faststream_django.backends.memory.envelope import Envelope
    from faststream_django.backends.memory.queue import Queue

__all__ = ["Callback", "ConsumerChannel", "MemoryConsumer"]

logger = logging.getLogger("faststream_django.worker")

Callback = Callable[[IncomingMessage], Awaitable[Any]]


class ConsumerChannel(Protocol):
    """The channel of a consumer: it knows what the consumer has in hand."""

    def has_room_for(self, in_flight: int) -> bool:
        """Tell whether the prefetch limit allows one more message."""

    def hold(self, consumer: MemoryConsumer, envelope: Envelope) -> int:
        """Remember the message until it is settled; return its delivery tag."""

    def drop(self, delivery_tag: int) -> None:
        """Forget a message that needs no acknowledgement."""


class MemoryConsumer:
    """Runs a callback for every message, each in a task of its own, within the prefetch limit.

    The limit also holds for a consumer without acknowledgements: its messages count as settled when
    the callback ends. RabbitMQ would send such a consumer everything at once.
    """

    def __init__(
        self, channel: ConsumerChannel, queue: Queue, tag: str, callback: Callback, *, no_ack: bool
    ) -> None:
        self.queue = queue
        self.in_flight = 0
        self._channel = channel
        self._tag = tag
        self._callback = callback
        self._no_ack = no_ack
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[tuple[int, Envelope]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def has_room(self) -> bool:
        return self._channel.has_room_for(self.in_flight)

    def take(self, envelope: Envelope) -> None:
        self.in_flight += 1
        self._inbox.append((self._channel.hold(self, envelope), envelope))
        if len(self._inbox) == 1:
            # An empty context: a handler must not see (or keep alive) the request that published.
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                self._loop.call_soon_threadsafe(self._start_tasks, context=contextvars.Context())

    def _start_tasks(self) -> None:
        while self._inbox:
            tag, envelope = self._inbox.popleft()
            task = self._loop.create_task(self._run(tag, envelope))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, tag: int, envelope: Envelope) -> None:
        try:
            await self._callback(self._incoming(tag, envelope))
        except Exception:
            logger.exception("The embedded broker cannot deliver from queue %r", self.queue.name)
        finally:
            if self._no_ack:
                self._channel.drop(tag)

    def _incoming(self, tag: int, envelope: Envelope) -> IncomingMessage:
        delivered = DeliveredMessage(
            delivery=Basic.Deliver(
                self._tag,
                tag,
                redelivered=envelope.deliveries > 0,
                exchange=envelope.exchange,
                routing_key=envelope.routing_key,
            ),
            header=ContentHeader(body_size=len(envelope.body), properties=envelope.open()),
            body=envelope.body,
            channel=self._channel,  # type: ignore[arg-type] # it has what a message uses
        )
        return IncomingMessage(delivered, no_ack=self._no_ack)
