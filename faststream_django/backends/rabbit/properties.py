"""A message as aiormq's channel takes it and gives it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pamqp.commands import Basic

from faststream_django.messages.message import Message
from faststream_django.messages.tables import encode_table

__all__ = ["Properties", "amqp_properties", "basic_publish", "received"]


class Properties(Basic.Properties):
    """Basic properties whose headers hold doubles; pamqp would write floats in single precision."""

    # No __slots__ here: pamqp takes the names of the properties from them.

    def encode_property(self, name: str, value: Any) -> bytes:
        if name == "headers":
            return encode_table(value)
        encoded: bytes = super().encode_property(name, value)
        return encoded


def amqp_properties(message: Message) -> Properties:
    """Return the basic properties; the expiration is a string of milliseconds."""
    return Properties(
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=dict(message.headers) or None,
        delivery_mode=2 if message.persist else 1,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if message.expiration is None else str(round(message.expiration * 1000)),
        message_id=message.message_id,
        timestamp=message.timestamp,
        message_type=message.message_type,
        app_id=message.app_id,
    )


def received(properties: Basic.Properties, body: bytes, routing_key: str = "") -> Message:
    """Return a message that has arrived as one that could be sent."""
    expiration = None
    with suppress(ValueError):  # others may write into it what RabbitMQ did not have to read
        expiration = int(properties.expiration) / 1000 if properties.expiration else None
    return Message(
        body=body,
        routing_key=routing_key,
        headers=properties.headers or {},
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        message_id=properties.message_id or "",
        correlation_id=properties.correlation_id or "",
        reply_to=properties.reply_to,
        expiration=expiration,
        priority=properties.priority,
        timestamp=properties.timestamp or datetime.now(tz=UTC),
        message_type=properties.message_type,
        persist=properties.delivery_mode == 2,
        app_id=properties.app_id or "",
    )


async def basic_publish(channel: Any, message: Message) -> None:
    """Publish on a channel of aiormq, or on one that is like it; return once it is confirmed."""
    await channel.basic_publish(
        message.body,
        exchange=message.exchange,
        routing_key=message.routing_key,
        properties=amqp_properties(message),
        mandatory=message.mandatory,
    )
