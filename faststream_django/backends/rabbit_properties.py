"""A message's properties as AMQP has them."""

from __future__ import annotations

from pamqp.commands import Basic

from faststream_django.messages import Message

__all__ = ["amqp_properties"]


def amqp_properties(message: Message) -> Basic.Properties:
    """Return the basic properties; the expiration is a string of milliseconds."""
    return Basic.Properties(
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
        app_id="faststream_django",
    )
