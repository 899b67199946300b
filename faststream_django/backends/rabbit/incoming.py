"""A reply as aio-pika shows a message that has arrived, for FastStream."""

from __future__ import annotations

from typing import Any, cast

from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from faststream_django.backends.rabbit.properties import amqp_properties
from faststream_django.messages.message import Message

__all__ = ["incoming"]


def incoming(message: Message) -> IncomingMessage:
    """Return the message as one that was consumed without acknowledgement."""
    delivered = DeliveredMessage(
        delivery=Basic.Deliver("", 0, exchange=message.exchange, routing_key=message.routing_key),
        header=ContentHeader(body_size=len(message.body), properties=amqp_properties(message)),
        body=message.body,
        channel=cast("Any", None),  # nothing is settled there
    )
    return IncomingMessage(delivered, no_ack=True)
