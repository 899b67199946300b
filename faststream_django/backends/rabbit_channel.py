"""A channel in confirm mode: what was written to it, and what the broker says to that."""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import pamqp.frame
from aiormq.abc import AbstractChannel
from aiormq.channel import exception_by_code
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from faststream_django.backends.base import Delivery, Verdict
from faststream_django.backends.rabbit_errors import (
    connection_lost,
    explained,
    publish_error,
    rejected,
    unroutable,
    unwritable,
)
from faststream_django.backends.rabbit_frames import publish_frames
from faststream_django.backends.rabbit_properties import amqp_properties
from faststream_django.backends.rabbit_wire import Wire
from faststream_django.exceptions import MessageRejected, MessageUnroutable, PublishTimeout
from faststream_django.messages import Message

__all__ = ["FastChannel", "PlainChannel", "PublishChannel"]

# What is written at once; the rest waits to see whether the socket takes it.
BATCH = 64 * 1024

ACK, NACK, RETURN = (60, 80), (60, 120), (60, 50)
CLOSE, CLOSE_OK = (20, 40), (20, 41)
METHOD = 1

_method = struct.Struct(">HH")
_confirm = struct.Struct(">QB")


class PublishChannel(ABC):
    """The messages that have been written to a channel and have no verdict yet."""

    def __init__(
        self, channel: AbstractChannel, on_answer: Callable[[], None], topology_errors: Mapping[str, str]
    ) -> None:
        self._channel = channel
        self._on_answer = on_answer
        self._topology_errors = topology_errors
        self._tag = 0
        self._confirmed = 0
        # By delivery tag. What nobody waits for stays until it is confirmed, for the sake of its id.
        self._unconfirmed: dict[int, Delivery] = {}
        self._ids: dict[str, int] = {}
        self._waiting = 0
        self.is_proven = False
        """The broker has answered, so the channel will not be closed for what was written before."""
        self.nacks = 0
        """How many of the last answers were basic.nack."""

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether nothing can be written any more."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for a verdict."""
        return not self._waiting

    @abstractmethod
    def write(self, pending: OrderedDict[Delivery, None], most: int) -> None:
        """Take messages from the front and write them, as far as the socket takes them.

        A message waits as long as an earlier one with its id is not confirmed: basic.return names the
        message by nothing else.
        """

    def forget(self, delivery: Delivery) -> None:
        """Nobody waits for this verdict any more."""
        if delivery.settled is not None:
            delivery.settled = None
            self._waiting -= 1

    async def close(self) -> None:
        await self._channel.close()

    def lose(self, reason: str) -> None:
        """End with the connection."""
        self._end(lambda delivery: connection_lost(delivery, reason))

    def _take(self, pending: OrderedDict[Delivery, None]) -> tuple[Delivery, Message] | None:
        """Take the first message, unless one with its id is on its way."""
        delivery, _ = pending.popitem(last=False)
        message = delivery.sent_as
        if message.message_id in self._ids:
            pending[delivery] = None
            pending.move_to_end(delivery, last=False)
            return None
        return delivery, message

    def _note(self, delivery: Delivery, message: Message) -> None:
        """Count a message that is about to be written."""
        delivery.hand_over()
        self._tag += 1
        delivery.channel, delivery.tag = self, self._tag
        self._unconfirmed[self._tag] = delivery
        self._ids[message.message_id] = self._tag
        self._waiting += 1

    def _settle(self, delivery: Delivery, verdict: Verdict) -> None:
        settled, delivery.settled = delivery.settled, None
        if settled is not None:
            self._waiting -= 1
            if isinstance(verdict, MessageUnroutable):
                verdict = explained(verdict, delivery.sent_as, self._topology_errors)
            settled(delivery, verdict)

    def _answered(self, nacks: int) -> None:
        self.is_proven = True
        self.nacks = self.nacks + nacks if nacks else 0
        self._on_answer()

    def _end(self, verdict: Callable[[Delivery], Verdict]) -> None:
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        self._ids.clear()
        for delivery in unconfirmed.values():
            self._settle(delivery, verdict(delivery))

    def _discharge(self, tag: int) -> Delivery | None:
        """Remove a message from those that are unconfirmed."""
        delivery = self._unconfirmed.pop(tag, None)
        if delivery is not None:
            self._ids.pop(delivery.sent_as.message_id, None)
        return delivery


class FastChannel(PublishChannel):
    """Writes frames past aiormq, many messages at once, and reads the confirms of many at once."""

    def __init__(
        self,
        channel: AbstractChannel,
        on_answer: Callable[[], None],
        topology_errors: Mapping[str, str],
        wire: Wire,
        frame_max: int,
    ) -> None:
        super().__init__(channel, on_answer, topology_errors)
        self._number = channel.number
        self._wire = wire
        self._frame_max = frame_max
        self._has_ended = False
        self._return: _Return | None = None
        wire.receivers[channel.number] = self

    @property
    def is_closed(self) -> bool:
        return self._has_ended or self._channel.is_closed

    def write(self, pending: OrderedDict[Delivery, None], most: int) -> None:
        if not self._wire.may_write():
            return
        parts: list[bytes] = []
        size = 0
        while pending and most and (taken := self._take(pending)) is not None:
            delivery, message = taken
            try:
                frames = publish_frames(message, self._number, self._frame_max)
                self._note(delivery, message)
            except Exception as error:  # noqa: BLE001 - a hand-made message, or one that was given up
                refuse(delivery, error)
                continue
            parts.append(frames)
            size += len(frames)
            most -= 1
            if size >= BATCH:
                self._wire.write(b"".join(parts))
                parts, size = [], 0
                if not self._wire.may_write():
                    break
        if parts:
            self._wire.write(b"".join(parts))

    async def close(self) -> None:
        await super().close()
        self._wire.receivers.pop(self._number, None)

    def take(self, kind: int, frame: bytes) -> bool:
        """See Receiver."""
        if kind != METHOD:
            return self._return is not None and self._take_content(self._return, frame)
        method = _method.unpack_from(frame, 7)
        if method in (ACK, NACK):
            tag, bits = _confirm.unpack_from(frame, 11)
            self._confirm(tag, multiple=bool(bits & 1), is_nack=method == NACK)
            return True
        if method == RETURN:
            self._return = _Return()
            return True
        if method == CLOSE:
            self._on_close(frame)
        return False

    def _confirm(self, tag: int, *, multiple: bool, is_nack: bool) -> None:
        nacks = 0
        for each in range(self._confirmed + 1, tag + 1) if multiple else (tag,):
            delivery = self._discharge(each)
            if delivery is None:
                continue
            nacks += is_nack
            self._settle(delivery, rejected(delivery) if is_nack else None)
        if multiple:
            self._confirmed = tag
        elif not self._unconfirmed:
            self._confirmed = self._tag
        self._answered(nacks)

    def _take_content(self, returned: _Return, frame: bytes) -> bool:
        """Take the next frame of a message that comes back; its basic.ack follows."""
        if returned.add(pamqp.frame.unmarshal(frame)[2]):
            tag = self._ids.get(returned.message_id)
            self._return = None
            delivery = None if tag is None else self._unconfirmed.get(tag)
            if delivery is not None:
                self._settle(delivery, unroutable(delivery))
        return True

    def _on_close(self, frame: bytes) -> None:
        """The broker closes the channel: nothing that is written from now on would be taken."""
        close: Any = pamqp.frame.unmarshal(frame)[2]
        self._has_ended = True
        self._wire.receivers.pop(self._number, None)
        newest = self._tag
        error = exception_by_code(close)
        self._end(lambda delivery: publish_error(error, delivery, newest=delivery.tag == newest))
        self._on_answer()


class _Return:
    """A message that comes back, until its content is complete."""

    def __init__(self) -> None:
        self.message_id = ""
        self._missing: int | None = None

    def add(self, frame: Any) -> bool:
        """Take a frame of the content; return True with the last."""
        if isinstance(frame, ContentHeader):
            self.message_id = frame.properties.message_id or ""
            self._missing = frame.body_size
        elif isinstance(frame, ContentBody) and self._missing is not None:
            self._missing -= len(frame.value)
        return self._missing is not None and self._missing <= 0


class PlainChannel(PublishChannel):
    """Publishes with aiormq's own method, a task for each message: for a version that does not fit."""

    def __init__(
        self, channel: AbstractChannel, on_answer: Callable[[], None], topology_errors: Mapping[str, str]
    ) -> None:
        super().__init__(channel, on_answer, topology_errors)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_closed(self) -> bool:
        return self._channel.is_closed

    def write(self, pending: OrderedDict[Delivery, None], most: int) -> None:
        while pending and most and (taken := self._take(pending)) is not None:
            delivery, message = taken
            try:
                self._note(delivery, message)
            except PublishTimeout as error:
                refuse(delivery, error)
                continue
            most -= 1
            task = asyncio.get_running_loop().create_task(self._publish(delivery, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish(self, delivery: Delivery, message: Message) -> None:
        verdict: Verdict = None
        try:
            await self._channel.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=amqp_properties(message),
                mandatory=message.mandatory,
            )
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - translated
            verdict = publish_error(error, delivery, newest=delivery.tag == self._tag)
        if self._discharge(delivery.tag) is not None:
            self._settle(delivery, verdict)
            self._answered(int(isinstance(verdict, MessageRejected) and not self.is_closed))


def refuse(delivery: Delivery, error: Exception) -> None:
    """Conclude a message that was not written."""
    settled, delivery.settled = delivery.settled, None
    if settled is None:
        return
    settled(delivery, error if isinstance(error, PublishTimeout) else unwritable(delivery, error))
