"""aiormq's connection and channel, without two of their defects (seen in aiormq 7.2.4)."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar
from weakref import WeakSet

from aiormq.channel import Channel
from aiormq.connection import Connection
from aiormq.connection import exception_by_code as connection_error
from aiormq.exceptions import ChannelInvalidStateError
from pamqp import commands
from yarl import URL

from faststream_django.backends.rabbit.declaring import DeclaringChannel
from faststream_django.backends.rabbit.wire import Wire
from faststream_django.loop.thread import loop_thread

__all__ = ["RabbitChannel", "RabbitConnection", "fits_wire", "make_wire", "quieten_aiormq"]

logger = logging.getLogger("faststream_django.connection")

# aiormq writes an ERROR for every attempt to connect, tracebacks for every loss, and bodies at DEBUG.
LOGGERS = ("aiormq.connection", "aiormq.channel")

C = TypeVar("C", bound="RabbitChannel")


@cache
def fits_wire() -> bool:
    """Tell whether this aiormq has a place for a wire; log it once if it has none."""
    fits = "transport_factory" in inspect.signature(Connection.__init__).parameters
    if not fits:
        logger.warning("aiormq %s has no place for the fast lane: it publishes itself", version("aiormq"))
    return fits


def make_wire() -> Wire | None:
    """Return the wire of a new connection, if there may be one."""
    return Wire() if fits_wire() else None


class RabbitConnection(Connection):
    """A connection that tells the broker's own words when it is refused, and opens careful channels.

    Publishes go through its wire; an aiormq that has no place for one publishes them itself.
    """

    def __init__(self, url: URL, *, wire: Wire | None = None, **options: Any) -> None:
        self.wire = wire
        if wire is not None:
            options["transport_factory"] = wire
        super().__init__(url, **options)
        self._last_number = 0

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has said that it takes no messages (memory or disk alarm)."""
        if self.wire is not None:
            return self.wire.is_blocked
        # aiormq has no attribute for it; ready() returns at once unless it is so.
        ready = self.ready()
        try:
            ready.send(None)
        except StopIteration:
            return False
        ready.close()
        return True

    @property
    def is_writable(self) -> bool:
        """Whether messages may be written now."""
        return self.wire.may_write() if self.wire is not None else not self.is_blocked

    @staticmethod
    async def _rpc(request: Any, *args: Any, **kwargs: Any) -> Any:
        # aiormq answers a connection.close (unknown vhost, connection limit) with an InvalidFrameError
        # that does not hold the reply text.
        kwargs["frame_receiver"] = _Receiver(kwargs["frame_receiver"])
        return await Connection._rpc(request, *args, **kwargs)  # noqa: SLF001

    async def open_channel(self) -> Channel:
        """Open a channel with publisher confirms, on which a returned message is an error."""
        return await self._open_channel(RabbitChannel, publisher_confirms=True)

    async def open_consuming_channel(self) -> Channel:
        """Open a channel to consume on."""
        return await self.open_plain_channel(RabbitChannel)

    async def open_declaring_channel(self) -> Channel | DeclaringChannel:
        """Open a channel to declare on; at most one at a time, for which a number is kept."""
        channel = await self.open_plain_channel(RabbitChannel)
        return channel if self.wire is None else DeclaringChannel(channel, self.wire)

    async def open_plain_channel(self, kind: type[C]) -> C:
        """Open a channel without confirms, of a class that knows what to make of its frames."""
        return await self._open_channel(kind, publisher_confirms=False)

    async def _open_channel(self, kind: type[C], *, publisher_confirms: bool) -> C:
        await self.connected.wait()
        if self.is_closed:
            raise ChannelInvalidStateError("the connection is closed")
        number = self._free_number()
        channel = self.channels[number] = kind(
            self, number, frame_buffer=self.FRAME_BUFFER_SIZE, publisher_confirms=publisher_confirms
        )
        await channel.open()
        return channel

    @property
    def channel_max(self) -> int:
        """How many channels the broker allows."""
        return self.connection_tune.channel_max or 65535

    def _free_number(self) -> int:
        for _ in range(len(self.channels) + 1):
            self._last_number = self._last_number % self.channel_max + 1
            if self._last_number not in self.channels:
                return self._last_number
        raise ChannelInvalidStateError(f"all {self.channel_max} channels of the connection are in use")


class _Receiver:
    """Raises what a connection.close says, where aiormq expects the answer to a handshake method."""

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver

    async def get_frame(self) -> Any:
        received = await self._receiver.get_frame()
        frame = received[2]
        if isinstance(frame, commands.Connection.Close) and frame.reply_code != 403:
            raise connection_error(frame)
        return received


class RabbitChannel(Channel):
    """A channel that writes nothing after it has agreed to its end.

    aiormq goes on for a few rounds of the loop; the broker takes a basic.publish after channel.close-ok
    for one on a channel that was never opened, and closes the whole connection (504).
    """

    _ending = False

    @property
    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        async with super().lock:
            if self._ending:
                raise ChannelInvalidStateError("the broker has closed the channel")
            yield

    async def _on_close_frame(self, frame: commands.Channel.Close) -> None:
        self._ending = True
        # aiormq drops its channel.close-ok when the queue is full, and the number could not be used again.
        while self.write_queue.full():  # noqa: ASYNC110 - a queue has no event for it
            await asyncio.sleep(0.001)
        await super()._on_close_frame(frame)


class _NotOurs(logging.Filter):
    """Passes what other users of aiormq in the process log."""

    def __init__(self) -> None:
        super().__init__()
        self.loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        """Loops of workers, on which we consume."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        return not loop_thread.is_current() and (
            not self.loops or asyncio._get_running_loop() not in self.loops  # noqa: SLF001 - None without one
        )


_filter = _NotOurs()


def quieten_aiormq(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Have aiormq log nothing on the loop thread, and on this loop."""
    if loop is not None:
        _filter.loops.add(loop)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # adding it again changes nothing
