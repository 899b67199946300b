"""The channel of a subscriber in one session: what comes in, what is settled, and how it ends."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pamqp.frame
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelClosed
from pamqp.commands import Basic

from faststream_django.backends.rabbit.consuming_delivery import Delivery, Outcome
from faststream_django.backends.rabbit.consuming_objects import SubscriberChannel
from faststream_django.backends.rabbit.protocol import (
    BASIC,
    BODY,
    CANCEL,
    CHANNEL_CLOSE,
    DELIVER,
    FRAME_END,
    HEADER,
    METHOD,
)
from faststream_django.backends.rabbit.received import Arriving, Received
from faststream_django.backends.rabbit.subscriptions import Subscription
from faststream_django.backends.rabbit.topology import ENDS_CONNECTION
from faststream_django.backends.rabbit.wire import Wire

__all__ = ["ConsumingChannel", "NotConsumed", "PlainConsumingChannel", "WiredConsumingChannel"]

_method = struct.Struct(">HH")
_settle = struct.Struct(">BHIHHQBB")

# The method of each outcome, and what follows the delivery tag: basic.nack with requeue or without.
SETTLE = {Outcome.ACK: (80, 0), Outcome.REQUEUE: (120, 2), Outcome.REJECT: (120, 0)}


class NotConsumed(Exception):
    """The broker refused a declaration, or a consumer (None). Its cause says what it answered."""

    def __init__(self, subscription: Subscription, declaration: str | None) -> None:
        super().__init__(declaration)
        self.subscription = subscription
        self.declaration = declaration


class ConsumingChannel:
    """An AMQP channel on which the subscriptions of one subscriber are consumed."""

    def __init__(
        self,
        channel: AbstractChannel,
        planned: SubscriberChannel,
        on_delivery: Callable[[Delivery], None],
    ) -> None:
        self.planned = planned
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done when nothing is consumed here any more; its result says why."""
        self.is_open = True
        self._channel = channel
        self._on_delivery = on_delivery
        self._subscriptions: dict[str, Subscription] = {}
        self._unsettled: dict[int, Delivery] = {}
        channel.closing.add_done_callback(self._on_closing)

    async def consume(self) -> None:
        """Declare what the subscriptions want, and consume; raise NotConsumed with what the broker says."""
        await self._channel.basic_qos(
            prefetch_count=self.planned.prefetch_count, global_=self.planned.is_prefetch_shared
        )
        for subscription in tuple(self.planned.subscriptions):
            for declaration in subscription.declare():
                with _telling(subscription, declaration.text):
                    await declaration.send(self._channel)
            self._subscriptions[subscription.tag] = subscription
            with _telling(subscription, None):
                await self._channel.basic_consume(
                    subscription.queue.name,
                    self._take_delivered,
                    consumer_tag=subscription.tag,
                    arguments=dict(subscription.arguments),
                )

    async def cancel(self, subscription: Subscription) -> None:
        """Take no more messages; the broker has answered when it returns, so that nothing more comes."""
        with suppress(Exception):  # the channel is gone, and the consumer with it
            await self._channel.basic_cancel(subscription.tag)
        self._subscriptions.pop(subscription.tag, None)

    async def close(self) -> None:
        self._end("closed")
        with suppress(Exception):
            await self._channel.close()

    def lose(self) -> None:
        """End with the connection."""
        self._end("the connection was lost")

    def settle(self, tag: int, outcome: Outcome) -> None:
        """See DeliveryChannel."""
        if self._unsettled.pop(tag, None) is not None and self.is_open:
            self._write(tag, outcome)

    def deliveries_up_to(self, tag: int) -> list[Delivery]:
        """See DeliveryChannel."""
        return [delivery for each, delivery in self._unsettled.items() if each <= tag]

    def _write(self, tag: int, outcome: Outcome) -> None:
        raise NotImplementedError

    async def _take_delivered(self, message: DeliveredMessage) -> None:
        """Take a message from aiormq, which calls this in a task of its own."""
        self._deliver(Received.from_driver(message))

    def _deliver(self, received: Received) -> None:
        subscription = self._subscriptions.get(received.consumer_tag)
        if subscription is None or not self.is_open:
            return  # cancelled meanwhile: it goes back with the channel
        delivery = Delivery(subscription, self, received)
        self._unsettled[received.tag] = delivery
        self._on_delivery(delivery)

    def _end(self, reason: str) -> None:
        self.is_open = False
        if not self.ended.done():
            self.ended.set_result(reason)

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._end(str(error) if error is not None else "the connection was lost")


class PlainConsumingChannel(ConsumingChannel):
    """Takes what aiormq delivers, and settles through it."""

    def __init__(self, channel: Any, *arguments: Any) -> None:
        super().__init__(channel, *arguments)
        self._tasks: set[asyncio.Task[None]] = set()
        channel.on_consumer_cancel_callbacks.add(self._on_cancel)

    def _on_cancel(self, frame: Basic.Cancel) -> None:
        self._end(f"the broker cancelled the consumer {frame.consumer_tag!r}")

    def _write(self, tag: int, outcome: Outcome) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(tag, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, tag: int, outcome: Outcome) -> None:
        with suppress(Exception):  # the channel is gone: the message comes again
            if outcome is Outcome.ACK:
                await self._channel.basic_ack(tag, wait=False)
            else:
                await self._channel.basic_nack(tag, requeue=outcome is Outcome.REQUEUE, wait=False)


class WiredConsumingChannel(ConsumingChannel):
    """Takes deliveries past aiormq, and settles many messages with one write."""

    def __init__(self, channel: AbstractChannel, *arguments: Any, wire: Wire) -> None:
        super().__init__(channel, *arguments)
        self._wire = wire
        self._number = channel.number
        self._loop = asyncio.get_running_loop()
        self._arriving: Arriving | None = None
        self._settled: list[bytes] = []
        wire.receivers[channel.number] = self

    def take(self, kind: int, frame: bytes) -> bool:
        """See Receiver."""
        if kind in {HEADER, BODY}:
            arriving = self._arriving
            if arriving is None:
                return False
            if arriving.is_complete_with(kind, frame):
                self._arriving = None
                self._deliver(arriving.received)
            return True
        if kind != METHOD:
            return False
        method = _method.unpack_from(frame, 7)
        if method == DELIVER:
            self._arriving = Arriving(frame)
            return True
        if method == CANCEL:
            self._end("the broker cancelled the consumer: its queue was deleted, or is not available")
        elif method == CHANNEL_CLOSE:
            close: Any = pamqp.frame.unmarshal(frame)[2]
            self._end(f"{close.reply_code} {close.reply_text}")
        return False

    def _write(self, tag: int, outcome: Outcome) -> None:
        # What is settled in the same round of the loop is written together.
        if not self._settled:
            self._loop.call_soon(self._flush)
        method, bits = SETTLE[outcome]
        self._settled.append(_settle.pack(METHOD, self._number, 13, BASIC, method, tag, bits, FRAME_END))

    def _flush(self) -> None:
        settled, self._settled = self._settled, []
        # After channel.close the broker would take them for a channel that was never opened.
        if self.is_open:
            self._wire.write(b"".join(settled))

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        super()._on_closing(closing)
        # Not before: what still comes in must not reach aiormq, which has not seen how it began.
        if self._wire.receivers.get(self._number) is self:
            del self._wire.receivers[self._number]


@contextmanager
def _telling(subscription: Subscription, declaration: str | None) -> Iterator[None]:
    try:
        yield
    except (ChannelClosed, *ENDS_CONNECTION) as error:
        raise NotConsumed(subscription, declaration) from error
