"""A message as it arrives, read from the frames of AMQP 0-9-1, and shown as aio-pika shows it.

aiormq and aio-pika make the same of it, in about five times the time; the tests compare the results.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pamqp.decode
from aio_pika import DeliveryMode, IncomingMessage
from aiormq.abc import DeliveredMessage

from faststream_django.backends.rabbit.protocol import (
    APP_ID,
    CLUSTER_ID,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CORRELATION_ID,
    DELIVERY_MODE,
    EXPIRATION,
    HEADER,
    HEADERS,
    MESSAGE_ID,
    MESSAGE_TYPE,
    PRIORITY,
    REPLY_TO,
    TIMESTAMP,
    USER_ID,
)

__all__ = ["Arriving", "Received", "ReceivedMessage"]

_deliver = struct.Struct(">QB")
_content = struct.Struct(">QH")
_long = struct.Struct(">Q")

TEXTS_BEFORE_TIMESTAMP = (
    (CORRELATION_ID, "correlation_id"),
    (REPLY_TO, "reply_to"),
    (EXPIRATION, "expiration"),
    (MESSAGE_ID, "message_id"),
)
TEXTS_AFTER_TIMESTAMP = (
    (MESSAGE_TYPE, "message_type"),
    (USER_ID, "user_id"),
    (APP_ID, "app_id"),
    (CLUSTER_ID, "cluster_id"),
)
MODES = {1: DeliveryMode.NOT_PERSISTENT, 2: DeliveryMode.PERSISTENT}


class Properties:
    """The basic properties of a message, under the names that pamqp gives them."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: datetime | None = None
    message_type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str = ""


class Received:
    """A message from a queue, as the broker gave it."""

    __slots__ = ("body", "consumer_tag", "exchange", "is_redelivered", "properties", "routing_key", "tag")

    def __init__(
        self, consumer_tag: str, tag: int, *, is_redelivered: bool, exchange: str, routing_key: str
    ) -> None:
        self.consumer_tag = consumer_tag
        self.tag = tag
        self.is_redelivered = is_redelivered
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties: Any = Properties()
        self.body = b""

    @classmethod
    def from_driver(cls, message: DeliveredMessage) -> Received:
        """Return what aiormq has read."""
        deliver: Any = message.delivery
        received = cls(
            deliver.consumer_tag,
            deliver.delivery_tag,
            is_redelivered=bool(deliver.redelivered),
            exchange=deliver.exchange,
            routing_key=deliver.routing_key,
        )
        received.properties = message.header.properties
        received.body = message.body
        return received


class Arriving:
    """A message of which basic.deliver has come, until its content is complete."""

    __slots__ = ("_missing", "_parts", "received")

    def __init__(self, frame: bytes) -> None:
        consumer_tag, position = _short(frame, 11)
        tag, redelivered = _deliver.unpack_from(frame, position)
        exchange, position = _short(frame, position + 9)
        routing_key, _ = _short(frame, position)
        self.received = Received(
            consumer_tag, tag, is_redelivered=bool(redelivered), exchange=exchange, routing_key=routing_key
        )
        self._missing = 0
        self._parts: list[bytes] = []

    def is_complete_with(self, kind: int, frame: bytes) -> bool:
        """Take the next frame of the content; return True with the last."""
        if kind == HEADER:
            self._missing, flags = _content.unpack_from(frame, 11)
            self.received.properties = _read_properties(frame, flags)
        else:
            part = frame[7:-1]
            self._missing -= len(part)
            self._parts.append(part)
        if self._missing > 0:
            return False
        self.received.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return True


class ReceivedMessage(IncomingMessage):
    """aio-pika's message, which settles itself on `channel`, made from what has arrived."""

    __slots__ = ()

    # aio-pika's own looks at each assignment, so that nobody changes a message that is settled.
    __setattr__ = object.__setattr__  # type: ignore[assignment]  # of narrower types there

    # Under the names that aio-pika's two classes give their private attributes.
    _Message__lock: bool
    _IncomingMessage__channel: Any
    _IncomingMessage__no_ack: bool
    _IncomingMessage__processed: bool

    def __init__(self, received: Received, channel: Any, *, no_ack: bool) -> None:
        properties = received.properties
        self.body = received.body
        self.body_size = len(received.body)
        self.headers = properties.headers or {}
        self.content_type = properties.content_type
        self.content_encoding = properties.content_encoding
        # aio-pika refuses other values, which RabbitMQ lets pass.
        self.delivery_mode = MODES.get(properties.delivery_mode or 1, DeliveryMode.NOT_PERSISTENT)
        self.priority = properties.priority or 0
        self.correlation_id = properties.correlation_id or None
        self.reply_to = properties.reply_to or None
        self.expiration = _seconds(properties.expiration)
        self.message_id = properties.message_id or None
        self.timestamp = properties.timestamp
        self.type = properties.message_type or None
        self.user_id = properties.user_id or None
        self.app_id = properties.app_id or None
        self.cluster_id = properties.cluster_id
        self.consumer_tag = received.consumer_tag
        self.delivery_tag = received.tag
        self.exchange = received.exchange
        self.message_count = None
        self.redelivered = received.is_redelivered
        self.routing_key = received.routing_key
        self._Message__lock = no_ack
        self._IncomingMessage__channel = channel
        self._IncomingMessage__no_ack = no_ack
        self._IncomingMessage__processed = no_ack


def _read_properties(frame: bytes, flags: int) -> Properties:
    """Return the properties that the flags name.

    The first that cannot be read, and what follows it, are left out: whatever others write there, the
    message is handled.
    """
    properties = Properties()
    with suppress(struct.error, ValueError, IndexError, OverflowError, OSError):
        _read(properties, frame, flags)
    return properties


def _read(properties: Properties, frame: bytes, flags: int) -> None:
    position = 21
    if flags & CONTENT_TYPE:
        properties.content_type, position = _short(frame, position)
    if flags & CONTENT_ENCODING:
        properties.content_encoding, position = _short(frame, position)
    if flags & HEADERS:
        size, properties.headers = pamqp.decode.field_table(frame[position:-1])
        position += size
    if flags & DELIVERY_MODE:
        properties.delivery_mode = frame[position]
        position += 1
    if flags & PRIORITY:
        properties.priority = frame[position]
        position += 1
    position = _read_texts(properties, frame, position, flags, TEXTS_BEFORE_TIMESTAMP)
    if flags & TIMESTAMP:
        properties.timestamp = datetime.fromtimestamp(_long.unpack_from(frame, position)[0], tz=UTC)
        position += 8
    _read_texts(properties, frame, position, flags, TEXTS_AFTER_TIMESTAMP)


def _read_texts(
    properties: Properties, frame: bytes, position: int, flags: int, texts: tuple[tuple[int, str], ...]
) -> int:
    for flag, name in texts:
        if flags & flag:
            text, position = _short(frame, position)
            setattr(properties, name, text)
    return position


def _short(frame: bytes, position: int) -> tuple[str, int]:
    """Return the short string at the position, and where it ends."""
    start = position + 1
    end = start + frame[position]
    return str(frame[start:end], "utf-8", "replace"), end


def _seconds(milliseconds: str | None) -> float | None:
    try:
        return None if milliseconds is None else float(milliseconds) / 1000
    except ValueError:
        return None
