"""One AMQP connection that publishes, with a channel for each exchange."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiormq.abc import AbstractChannel

from faststream_django.backends.base import Delivery, NotSent, Session
from faststream_django.backends.rabbit_driver import RabbitConnection
from faststream_django.backends.rabbit_errors import explained, publish_error
from faststream_django.backends.rabbit_properties import amqp_properties
from faststream_django.backends.rabbit_topology import declare_topology
from faststream_django.conf import BrokerSettings
from faststream_django.exceptions import MessageRejected, MessageUnroutable
from faststream_django.messages import Message

__all__ = ["RabbitSession"]

# Exchanges with an open channel; the one that was not used for longest gives its own up.
MOST_CHANNELS = 64
# Nacks in a row after which the messages for an exchange get a fresh channel, at most once in so many
# seconds: RabbitMQ 3.10 nacks everything on a channel that saw a quorum queue lose its leader.
MOST_NACKS, FRESH_CHANNEL_INTERVAL = 3, 1.0


class RabbitSession(Session):
    """One AMQP connection with a channel for each exchange that is published to.

    RabbitMQ answers a publish to a missing exchange, or without permission, by closing the channel: the
    messages for one exchange cannot hurt those for another. The order of messages is kept for each
    exchange, which is what AMQP 0-9-1 promises.
    """

    def __init__(self, connection: RabbitConnection, settings: BrokerSettings) -> None:
        self._connection = connection
        self._settings = settings
        self.closed = asyncio.get_running_loop().create_future()
        connection.closing.add_done_callback(self._on_close)
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._topology_errors: dict[str, str] = {}
        self._closing: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        self._topology_errors = await declare_topology(self._connection, self._settings)

    async def transmit(self, message: Message, delivery: Delivery) -> None:
        await self._unblocked(delivery)
        line = self._line(message.exchange)
        with line.occupied():
            # Taken by every message: whoever came first goes first, also behind a proof.
            async with line.turn:
                if not line.is_proven:
                    # It travels alone, so that an error of the channel is certainly about it.
                    await self._prove(line, message, delivery)
                    return
            await self._transmit_on(line, message, delivery)

    @property
    def is_blocked(self) -> bool:
        return not _is_ready(self._connection)

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._in_background(self._connection.close(ConnectionResetError(reason)))

    async def close(self) -> None:
        await self._connection.close()

    async def _prove(self, line: _Line, message: Message, delivery: Delivery) -> None:
        channel = line.channel
        if channel is None or channel.is_closed:
            channel = line.channel = await self._open_channel()
        try:
            await self._publish(line, channel, message, delivery)
        except (MessageUnroutable, MessageRejected):
            line.is_proven = not channel.is_closed
            raise
        line.is_proven = True

    async def _transmit_on(self, line: _Line, message: Message, delivery: Delivery) -> None:
        channel = line.channel
        if channel is None or not line.is_proven:
            raise NotSent("the channel of the exchange was closed")
        async with line.only_one_with(message.message_id):
            try:
                await self._publish(line, channel, message, delivery)
            except MessageRejected:
                if line.is_suspect():
                    self._renew(message.exchange, line)
                raise
        line.nacks = 0

    def _renew(self, exchange: str, line: _Line) -> None:
        """Give later messages a channel of their own; those that are on their way keep the old one."""
        if self._lines.get(exchange) is line:
            self._lines[exchange] = _Line()
            self._in_background(line.retire())

    def _line(self, exchange: str) -> _Line:
        line = self._lines.get(exchange)
        if line is None:
            line = self._lines[exchange] = _Line()
            self._retire_lines()
        elif line.channel is not None and line.channel.is_closed:
            line.is_proven = False
        self._lines.move_to_end(exchange)
        return line

    def _retire_lines(self) -> None:
        """Close the channels of the exchanges that were not used for longest."""
        idle = [name for name, line in self._lines.items() if not line.occupants]
        for name in idle[: max(0, len(self._lines) - MOST_CHANNELS)]:
            self._in_background(self._lines.pop(name).retire())

    def _in_background(self, closing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _publish(
        self, line: _Line, channel: AbstractChannel, message: Message, delivery: Delivery
    ) -> None:
        properties = amqp_properties(message)
        delivery.hand_over()
        number = line.written = line.written + 1
        try:
            await channel.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=properties,
                mandatory=message.mandatory,
            )
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise publish_error(error, delivery, message, newest=line.written == number) from error
        except Exception as error:
            verdict = publish_error(error, delivery, message, newest=line.written == number)
            raise explained(verdict, message, self._topology_errors) from error

    async def _unblocked(self, delivery: Delivery) -> None:
        if _is_ready(self._connection):
            return
        delivery.blocked = True
        ready = asyncio.ensure_future(self._connection.ready())
        waiting: set[asyncio.Future[Any]] = {ready, self.closed}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        delivery.blocked = False
        if self.closed.done():
            raise NotSent(self.closed.result())

    async def _open_channel(self) -> AbstractChannel:
        if self.closed.done() or self._connection.is_closed:
            raise NotSent("the connection is closed")
        try:
            return await self._connection.open_channel()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotSent("the connection was lost while a channel was opened") from error
        except Exception as error:
            raise NotSent(f"no channel: {type(error).__name__}") from error

    def _on_close(self, closing: asyncio.Future[Any]) -> None:
        if self.closed.done():
            return
        if closing.cancelled():
            reason = "no frame from the broker for too long (heartbeat)"
        else:
            error = closing.exception()
            reason = f"{type(error).__name__}: {error}" if error else "closed"
        self.closed.set_result(reason)


class _Line:
    """The way of the messages for one exchange."""

    def __init__(self) -> None:
        self.channel: AbstractChannel | None = None
        self.is_proven = False
        self.turn = asyncio.Lock()
        self.occupants = 0
        self.written = 0
        self.nacks = 0
        self._since = time.monotonic()
        self._emptied = asyncio.Event()
        self._in_flight: dict[str, asyncio.Event] = {}

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Count a message while it is on its way."""
        self.occupants += 1
        try:
            yield
        finally:
            self.occupants -= 1
            if not self.occupants:
                self._emptied.set()

    def is_suspect(self) -> bool:
        """Count a nack; tell whether the channel itself may be the reason."""
        self.nacks += 1
        return self.nacks >= MOST_NACKS and time.monotonic() - self._since >= FRESH_CHANNEL_INTERVAL

    async def retire(self) -> None:
        """Close the channel once nobody is on it."""
        while self.occupants:
            self._emptied.clear()
            await self._emptied.wait()
        if self.channel is not None:
            await self.channel.close()

    @asynccontextmanager
    async def only_one_with(self, message_id: str) -> AsyncIterator[None]:
        """Wait for an earlier message with the same id.

        aiormq finds the message of a basic.return by its id: two of them would swap their verdicts.
        """
        while (earlier := self._in_flight.get(message_id)) is not None:
            await earlier.wait()
        done = self._in_flight[message_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._in_flight[message_id]
            done.set()


def _is_ready(connection: RabbitConnection) -> bool:
    """Tell whether ready() would return at once; aiormq has no attribute for `connection.blocked`."""
    ready = connection.ready()
    try:
        ready.send(None)
    except StopIteration:
        return True
    ready.close()
    return False
