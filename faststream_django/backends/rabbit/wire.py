"""The way to the socket that publishes take past aiormq, and what comes back for them.

aiormq keeps the connection: handshake, heartbeats, channels, the end. Its way of a frame, through a queue
and two tasks in each direction, costs more than everything else in a publish. So the stream that is made
for it, by a TransportFactory as aiormq calls it, looks at each frame that arrives, takes those that answer
publishes, and hands the others on.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from typing import Any, Protocol

from pamqp.exceptions import PAMQPException
from yarl import URL

from faststream_django.backends.rabbit.protocol import (
    CONNECTION_BLOCKED,
    CONNECTION_CLOSE,
    CONNECTION_UNBLOCKED,
    FRAME_END,
    FRAME_TYPES,
    METHOD,
)

__all__ = ["Receiver", "Wire"]

HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
# Seconds between signs of life for aiormq, which does not see the frames that were taken.
SIGN_OF_LIFE = 1.0
# No frame is longer; RabbitMQ's default limit is 128 KiB.
LONGEST_FRAME = 64 * 1024 * 1024

# Bytes that are read from the socket at once.
READ_SIZE = 64 * 1024

_header = struct.Struct(">BHI")
_method = struct.Struct(">HH")


class Receiver(Protocol):
    """A channel that publishes through the wire."""

    def take(self, kind: int, frame: bytes) -> bool:
        """Take a frame for this channel, or return False: it is aiormq's."""


class Wire:
    """Writes to the socket of one connection, and gives its channels what is for them."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = _ignore
        """Called when the peer takes messages again, or does not."""
        self.receivers: dict[int, Receiver] = {}
        self.is_blocked = False
        """The broker has said that it takes no messages (memory or disk alarm)."""
        self.is_congested = False
        """The peer reads more slowly than is written."""
        self.has_ended = False
        self.heard_at = 0.0
        """When the last whole frame came, on the clock of time.monotonic()."""
        self._transport: asyncio.WriteTransport

    def may_write(self) -> bool:
        """Tell whether a publish may be written now."""
        return not (self.is_blocked or self.is_congested or self.has_ended or self._transport.is_closing())

    def write(self, data: bytes) -> bool:
        """Write, or return False: the socket is broken and took none of it."""
        self._transport.write(data)
        # Transports of asyncio and of uvloop try to send at once, unless older data waits, and begin to close
        # when that fails. A send that fails has taken nothing.
        return not self._transport.is_closing()

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as aiormq's own factories do."""
        provider = options.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        tap = _Tap(self)
        protocol = _Protocol(self, tap)
        transport, _ = await loop.create_connection(
            lambda: protocol, url.host or "", url.port or 0, ssl=context, **options
        )
        self._transport = transport
        return tap, asyncio.StreamWriter(transport, protocol, tap, loop)

    def change(self, *, blocked: bool | None = None, congested: bool | None = None) -> None:
        """Note that the peer takes messages again, or does not."""
        self.is_blocked = self.is_blocked if blocked is None else blocked
        self.is_congested = self.is_congested if congested is None else congested
        self.on_change()

    def take(self, kind: int, channel: int, frame: bytes) -> bool:
        """Give a frame to the channel that it is for; return False if aiormq is to have it."""
        receiver = self.receivers.get(channel)
        try:
            if receiver is not None:
                return receiver.take(kind, frame)
            if channel == 0 and kind == METHOD:
                self._note(_method.unpack_from(frame, 7))
        except (struct.error, PAMQPException):  # it is malformed: aiormq ends the connection
            return False
        return False

    def _note(self, method: tuple[int, ...]) -> None:
        if method == CONNECTION_CLOSE:
            self.has_ended = True  # what is written from now on would not be read
        elif method == CONNECTION_BLOCKED:
            self.change(blocked=True)
        elif method == CONNECTION_UNBLOCKED:
            self.change(blocked=False)


def _ignore() -> None:
    """Nobody asks yet."""


class _Protocol(asyncio.StreamReaderProtocol, asyncio.BufferedProtocol):
    """A stream that tells the wire, and not only drain(), when the peer reads too slowly.

    It brings its own buffer: asyncio would allocate 256 KiB for each confirm that arrives.
    """

    def __init__(self, wire: Wire, tap: _Tap) -> None:
        super().__init__(tap, loop=asyncio.get_running_loop())
        self._wire = wire
        self._tap = tap
        self._buffer = memoryview(bytearray(READ_SIZE))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._tap.feed_data(bytes(self._buffer[:nbytes]))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wire.change(congested=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wire.change(congested=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.has_ended = True
        super().connection_lost(exc)


class _Tap(asyncio.StreamReader):
    """A stream of frames, without those that the wire takes."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._wire = wire
        self._rest = b""
        self._is_amqp = True
        self._sign_of_life = 0.0

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # what a transport gives
        if not self._is_amqp:
            super().feed_data(data)
            return
        if self._rest:
            data = self._rest + data
        position, size = 0, len(data)
        taken = False
        left = []
        while size - position >= 8:
            kind, channel, length = _header.unpack_from(data, position)
            if kind not in FRAME_TYPES or length > LONGEST_FRAME:
                # Not AMQP: aiormq says what it is.
                self._is_amqp = False
                left.append(data[position:])
                position = size
                break
            end = position + length + 8
            if end > size:
                break
            frame = data[position:end]
            position = end
            if frame[-1] == FRAME_END and self._wire.take(kind, channel, frame):
                taken = True
            else:
                left.append(frame)
        self._rest = data[position:]
        if taken or left:
            self._wire.heard_at = now = time.monotonic()
            if not left and now - self._sign_of_life > SIGN_OF_LIFE:
                self._sign_of_life = now
                left.append(HEARTBEAT_FRAME)
        if left:
            super().feed_data(b"".join(left))

    def feed_eof(self) -> None:
        if self._rest:
            super().feed_data(self._rest)
            self._rest = b""
        super().feed_eof()
