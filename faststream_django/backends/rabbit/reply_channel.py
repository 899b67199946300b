"""A channel for requests: it publishes them, and consumes the replies to them.

RabbitMQ takes a message whose reply-to is its pseudo-queue only on the channel that consumes from it, and
gives the replies to that channel alone: https://www.rabbitmq.com/docs/direct-reply-to
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

import pamqp.frame
from aiormq.abc import DeliveredMessage

from faststream_django.backends.base import Publication, Request, Verdict
from faststream_django.backends.rabbit.channel import PublishChannel
from faststream_django.backends.rabbit.fast_channel import FastChannel
from faststream_django.backends.rabbit.plain_channel import PlainChannel
from faststream_django.backends.rabbit.properties import received
from faststream_django.backends.rabbit.protocol import BODY, DELIVER, HEADER, METHOD, REPLIES
from faststream_django.messages.message import Message
from faststream_django.messages.reply import Reply

__all__ = ["FastReplyChannel", "PlainReplyChannel", "ReplyChannel"]

logger = logging.getLogger("faststream_django.publish")

_method = struct.Struct(">HH")
_body_size = struct.Struct(">Q")


class ReplyChannel(PublishChannel):
    """Settles a request with its reply, and not with its confirm, which may come before or after."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # By correlation id: those that are written and have no reply.
        self._requests: dict[str, Request] = {}

    async def consume(self) -> None:
        """Begin to consume the replies; before the first request is written."""
        await self._channel.basic_consume(REPLIES, self._on_delivery, no_ack=True)

    def forget(self, publication: Publication) -> None:
        self._drop(publication)
        if not _is_routed(publication):
            super().forget(publication)
        elif publication.on_settled is not None:
            publication.on_settled = None
            self._waiting -= 1

    def _note(self, publication: Publication, message: Message) -> None:
        super()._note(publication, message)
        if isinstance(publication, Request):
            self._requests[message.correlation_id] = publication

    def _settle(self, publication: Publication, verdict: Verdict) -> None:
        if isinstance(publication, Request) and verdict is None and publication.reply is None:
            publication.is_routed = True
            # What closes the channel from now on is not about it.
            publication.tag = 0
            return
        self._drop(publication)
        super()._settle(publication, verdict)

    def _answer(self, message: Message) -> None:
        request = self._requests.get(message.correlation_id)
        if request is None:
            logger.debug("correlation_id=%r state=reply-too-late", message.correlation_id)
            return
        request.reply = Reply(message)
        self._settle(request, None)
        self._on_answer()

    def _end(self, verdict: Callable[[Publication], Verdict]) -> None:
        super()._end(verdict)
        for request in tuple(self._requests.values()):
            self._settle(request, verdict(request))

    def _drop(self, publication: Publication) -> None:
        correlation_id = publication.sent_as.correlation_id
        if self._requests.get(correlation_id) is publication:
            del self._requests[correlation_id]

    async def _on_delivery(self, delivered: DeliveredMessage) -> None:
        self._answer(received(delivered.header.properties, delivered.body))


class PlainReplyChannel(ReplyChannel, PlainChannel):
    """Gets the replies from aiormq."""


class FastReplyChannel(ReplyChannel, FastChannel):
    """Takes the replies from the wire, as the confirms."""

    _delivery: _Delivery | None = None

    def take(self, kind: int, frame: bytes) -> bool:
        """See Receiver."""
        if kind == METHOD:
            if _method.unpack_from(frame, 7) != DELIVER:
                return super().take(kind, frame)
            self._delivery = _Delivery()
            return True
        delivery = self._delivery
        if delivery is None:
            return super().take(kind, frame)
        if delivery.add(kind, frame):
            self._delivery = None
            if delivery.properties is not None:
                self._answer(received(delivery.properties, b"".join(delivery.parts)))
        return True


class _Delivery:
    """A reply, until its content is complete."""

    def __init__(self) -> None:
        self.properties: Any = None
        self.parts: list[bytes] = []
        self._missing: int | None = None

    def add(self, kind: int, frame: bytes) -> bool:
        """Take a frame of the content; return True with the last."""
        if kind == HEADER:
            (self._missing,) = _body_size.unpack_from(frame, 11)
            try:
                header: Any = pamqp.frame.unmarshal(frame)[2]
                self.properties = header.properties
            except Exception as error:  # noqa: BLE001 - whatever others write there, this channel goes on
                logger.warning("state=unreadable-reply reason=%r", type(error).__name__)
        elif kind == BODY and self._missing is not None:
            self.parts.append(frame[7:-1])
            self._missing -= len(frame) - 8
        return self._missing is not None and self._missing <= 0


def _is_routed(publication: Publication) -> bool:
    return isinstance(publication, Request) and publication.is_routed
