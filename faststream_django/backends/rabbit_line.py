"""The messages for one exchange, in their order, and the channel that they go through."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from faststream_django.backends.base import Delivery, NotSent
from faststream_django.backends.rabbit_channel import PublishChannel

__all__ = ["Line"]

# Nacks in a row after which the messages for an exchange get a fresh channel, at most once in so many
# seconds: RabbitMQ 3.10 nacks everything on a channel that saw a quorum queue lose its leader.
MOST_NACKS, FRESH_CHANNEL_INTERVAL = 3, 1.0
# Seconds before a channel that could not be opened is tried again.
RETRY_PAUSE = 0.05

OpenChannel = Callable[[Callable[[], None]], Awaitable[PublishChannel]]


class Line:
    """Sends the messages for one exchange.

    RabbitMQ answers a publish to a missing exchange, or without permission, by closing the channel. So
    the first message on a channel travels alone: an error of the channel is certainly about it.
    """

    def __init__(self, open_channel: OpenChannel) -> None:
        self.pending: OrderedDict[Delivery, None] = OrderedDict()
        self._open_channel = open_channel
        self._loop = asyncio.get_running_loop()
        self._channel: PublishChannel | None = None
        self._opening: asyncio.Task[None] | None = None
        self._since = 0.0
        self._retired: set[PublishChannel] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        channel_is_idle = self._channel is None or self._channel.is_idle
        return channel_is_idle and not (self.pending or self._opening or self._retired)

    def flush(self) -> None:
        """Write what waits, as far as it may be written now."""
        channel = self._channel
        if not self.pending or self._opening is not None:
            return
        if channel is None or channel.is_closed:
            self._opening = self._loop.create_task(self._open())
        elif channel.is_proven:
            channel.write(self.pending, len(self.pending))
        elif channel.is_idle:
            channel.write(self.pending, 1)

    def lose(self, reason: str) -> None:
        """End with the connection."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        for channel in (*self._retired, self._channel):
            if channel is not None:
                channel.lose(reason)
        while self.pending:
            delivery, _ = self.pending.popitem(last=False)
            settled, delivery.settled = delivery.settled, None
            if settled is not None:
                settled(delivery, NotSent(reason))

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    async def _open(self) -> None:
        try:
            self._channel = await self._open_channel(self._on_answer)
        except NotSent:
            self._loop.call_later(RETRY_PAUSE, self.flush)
            return
        finally:
            self._opening = None
        self._since = time.monotonic()
        self.flush()

    def _on_answer(self) -> None:
        channel = self._channel
        if channel is not None and self._is_suspect(channel):
            # Later messages get a channel of their own; those that are on their way keep the old one.
            self._retired.add(channel)
            self._channel = None
        for retired in [each for each in self._retired if each.is_idle]:
            self._retired.discard(retired)
            task = self._loop.create_task(retired.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if self.pending:
            self.flush()

    def _is_suspect(self, channel: PublishChannel) -> bool:
        return channel.nacks >= MOST_NACKS and time.monotonic() - self._since >= FRESH_CHANNEL_INTERVAL
