"""Declarations that do not wait for one another: written at once, answered in their order."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Any

import pamqp.frame
from aiormq.abc import AbstractChannel
from aiormq.channel import exception_by_code
from aiormq.exceptions import ChannelInvalidStateError
from pamqp import commands

from faststream_django.backends.rabbit.protocol import CHANNEL_CLOSE, METHOD
from faststream_django.backends.rabbit.wire import Wire

__all__ = ["DeclaringChannel"]

# exchange.declare-ok, exchange.bind-ok, queue.declare-ok, queue.bind-ok
ANSWERS = frozenset({(40, 11), (40, 31), (50, 11), (50, 21)})

_method = struct.Struct(">HH")


class DeclaringChannel:
    """Writes declarations past aiormq, which would wait for the answer to each before the next.

    Has the methods of aiormq's channel that declare. The broker takes the methods of a channel in their
    order, and none after the one that it closes the channel for: that is the first without an answer.
    """

    def __init__(self, channel: AbstractChannel, wire: Wire) -> None:
        self._channel = channel
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[asyncio.Future[None]] = deque()
        self.is_closed = False
        wire.receivers[channel.number] = self
        channel.closing.add_done_callback(self._on_closing)

    def exchange_declare(self, exchange: str, **options: Any) -> asyncio.Future[None]:
        return self._send(commands.Exchange.Declare(exchange=exchange, **options))

    def queue_declare(self, queue: str, **options: Any) -> asyncio.Future[None]:
        return self._send(commands.Queue.Declare(queue=queue, **options))

    def exchange_bind(self, destination: str, source: str, **options: Any) -> asyncio.Future[None]:
        return self._send(commands.Exchange.Bind(destination=destination, source=source, **options))

    def queue_bind(self, queue: str, exchange: str, **options: Any) -> asyncio.Future[None]:
        return self._send(commands.Queue.Bind(queue=queue, exchange=exchange, **options))

    async def close(self) -> None:
        self.is_closed = True
        await self._channel.close()

    def take(self, kind: int, frame: bytes) -> bool:
        """See Receiver."""
        method = _method.unpack_from(frame, 7) if kind == METHOD else None
        if method in ANSWERS and self._unanswered:
            answer = self._unanswered.popleft()
            if not answer.done():
                answer.set_result(None)
            return True
        if method == CHANNEL_CLOSE:
            close: Any = pamqp.frame.unmarshal(frame)[2]
            self._end(exception_by_code(close))
        return False

    def _send(self, method: Any) -> asyncio.Future[None]:
        if self.is_closed:
            raise ChannelInvalidStateError("the channel is closed")
        frame = pamqp.frame.marshal(method, self._channel.number)
        answer: asyncio.Future[None] = self._loop.create_future()
        self._unanswered.append(answer)
        self._wire.write(frame)
        return answer

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._end(error if isinstance(error, Exception) else ConnectionResetError("the connection was lost"))

    def _end(self, error: Exception) -> None:
        """Tell the first, which the broker closed the channel for, and those that it did not look at."""
        self.is_closed = True
        self._wire.receivers.pop(self._channel.number, None)
        while self._unanswered:
            answer = self._unanswered.popleft()
            if not answer.done():
                answer.set_exception(error)
            error = ChannelInvalidStateError("the channel was closed before")
