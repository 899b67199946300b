"""The messages for one exchange, in their order, and the channel that they go through."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial

from faststream_django.backends.base import NotSent, Publication, Request
from faststream_django.backends.rabbit.channel import PublishChannel

__all__ = ["ExchangePublisher", "ExchangePublishers"]

# Exchanges that keep their channel while nothing is to be sent; the one that was used last keeps it longest.
MOST_CHANNELS = 64
# Nacks in a row after which the messages for an exchange get a fresh channel, at most once in so many
# seconds: RabbitMQ 3.10 nacks everything on a channel that saw a quorum queue lose its leader.
MOST_NACKS, FRESH_CHANNEL_INTERVAL = 3, 1.0
# Seconds before a channel that could not be opened is tried again.
RETRY_PAUSE = 0.05

OpenChannel = Callable[[Callable[[], None]], Awaitable[PublishChannel]]

_Key = str | tuple[str]
"""The name of an exchange; for the requests to it, in a tuple."""


class ExchangePublishers:
    """A publisher for each exchange, and the channels that they share.

    The broker allows a connection so many channels. Where all of them are taken, a publisher waits until
    another one has nothing under way, which then gives its channel up.
    """

    def __init__(
        self, open_channel: OpenChannel, most: int, open_reply_channel: OpenChannel | None = None
    ) -> None:
        self._open = open_channel
        self._open_for_requests = open_reply_channel or open_channel
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._waiting = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._publishers: OrderedDict[_Key, ExchangePublisher] = OrderedDict()

    def __getitem__(self, exchange: str) -> ExchangePublisher:
        publisher = self._publishers.get(exchange)
        if publisher is None:
            publisher = self._add(exchange, partial(self._open_channel, self._open))
        self._publishers.move_to_end(exchange)
        return publisher

    def of_requests(self, exchange: str) -> ExchangePublisher:
        """Return the publisher of the requests for an exchange, whose channel has the replies too."""
        key = (exchange,)
        publisher = self._publishers.get(key)
        if publisher is None:
            publisher = self._add(key, partial(self._open_channel, self._open_for_requests))
        self._publishers.move_to_end(key)
        return publisher

    def _add(self, key: _Key, open_channel: OpenChannel) -> ExchangePublisher:
        self._retire_idle(len(self._publishers) + 1 - min(MOST_CHANNELS, self._most))
        publisher = self._publishers[key] = ExchangePublisher(open_channel, self)
        return publisher

    def _of(self, publication: Publication) -> ExchangePublisher | None:
        exchange = publication.sent_as.exchange
        return self._publishers.get((exchange,) if isinstance(publication, Request) else exchange)

    def flush(self) -> None:
        for publisher in tuple(self._publishers.values()):
            publisher.flush()

    def withdraw(self, publication: Publication) -> None:
        publisher = self._of(publication)
        if publisher is not None:
            publisher.withdraw(publication)

    def lose(self, reason: str) -> None:
        for publisher in self._publishers.values():
            publisher.lose(reason)

    @property
    def is_channel_wanted(self) -> bool:
        """Whether more publishers wait for a channel than channels are being closed for them."""
        return bool(self._waiting) and self._waiting > len(self._closing)

    def what_holds(self, publication: Publication) -> str:
        """Tell why the message waits for a channel, and the cure; an empty text if not."""
        publisher = self._of(publication)
        if not self._waiting or publisher is None or not publisher.is_opening:
            return ""
        return (
            f"the broker allows {self._most} channels besides one for declarations, and messages for as many "
            "other exchanges are under way. Raise channel_max in rabbitmq.conf, or publish to fewer "
            "exchanges at a time"
        )

    def retire(self, publisher: ExchangePublisher) -> None:
        """Close the channel of a publisher that has nothing under way."""
        for key in [key for key, each in self._publishers.items() if each is publisher]:
            del self._publishers[key]
        task = self._loop.create_task(publisher.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _retire_idle(self, count: int) -> None:
        """Retire so many publishers of those that were not used for longest."""
        idle = (
            [publisher for publisher in self._publishers.values() if publisher.is_idle] if count > 0 else []
        )
        for publisher in idle[:count]:
            self.retire(publisher)

    async def _open_channel(self, open_now: OpenChannel, on_answer: Callable[[], None]) -> PublishChannel:
        self._waiting += 1
        try:
            if self._free.locked() and self.is_channel_wanted:
                self._retire_idle(1)
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            channel = await open_now(on_answer)
        except BaseException:
            self._free.release()
            raise
        channel.closing.add_done_callback(lambda _: self._free.release())
        return channel


class ExchangePublisher:
    """Sends the messages for one exchange.

    RabbitMQ answers a publish to a missing exchange, or without permission, by closing the channel. So
    the first message on a channel travels alone: an error of the channel is certainly about it.
    """

    def __init__(self, open_channel: OpenChannel, publishers: ExchangePublishers | None = None) -> None:
        self.pending: OrderedDict[Publication, None] = OrderedDict()
        self._open_channel = open_channel
        self._publishers = publishers
        self._loop = asyncio.get_running_loop()
        self._channel: PublishChannel | None = None
        self._opening: asyncio.Task[None] | None = None
        self._since = 0.0
        self._retired: set[PublishChannel] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        channel_is_idle = self._channel is None or (self._channel.is_idle and not self._channel.aside)
        return channel_is_idle and not (self.pending or self._opening or self._retired)

    @property
    def is_opening(self) -> bool:
        return self._opening is not None

    def flush(self) -> None:
        """Write what waits, as far as it may be written now."""
        channel = self._channel
        if not self.pending or self._opening is not None:
            return
        if channel is None or channel.is_closed:
            # The channel outlives whoever came first, so it keeps nothing of their context.
            self._opening = self._loop.create_task(self._open(), context=contextvars.Context())
        elif channel.is_proven:
            channel.write(self.pending, len(self.pending))
        elif channel.is_idle:
            channel.write(self.pending, 1)

    def withdraw(self, publication: Publication) -> None:
        """Forget a message that nobody waits for; what waited for its verdict goes on."""
        if publication.on_settled is None:
            return
        if publication.channel is None:
            publication.on_settled = None
            if publication in self.pending:
                del self.pending[publication]
            elif self._channel is not None:
                self._channel.leave(publication)
            return
        publication.channel.forget(publication)
        # Not at once: those that are withdrawn in the same round of the loop are not to be sent first.
        self._loop.call_soon(self._on_answer)

    def lose(self, reason: str) -> None:
        """End with the connection."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        for channel in (*self._retired, self._channel):
            if channel is not None:
                channel.lose(reason)
        while self.pending:
            publication, _ = self.pending.popitem(last=False)
            on_settled, publication.on_settled = publication.on_settled, None
            if on_settled is not None:
                on_settled(publication, NotSent(reason))

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
            channel.release()
            self._retired.add(channel)
            self._channel = None
        for retired in [each for each in self._retired if each.is_idle]:
            self._retired.discard(retired)
            task = self._loop.create_task(retired.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if self.pending:
            self.flush()
        elif self._publishers is not None and self._publishers.is_channel_wanted and self.is_idle:
            self._publishers.retire(self)

    def _is_suspect(self, channel: PublishChannel) -> bool:
        return channel.nacks >= MOST_NACKS and time.monotonic() - self._since >= FRESH_CHANNEL_INTERVAL
