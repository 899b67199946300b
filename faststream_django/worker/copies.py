"""The copy of a message that goes to another queue: all that its publisher wrote, and why it goes there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from faststream_django.messages.message import Message
from faststream_django.messages.tables import encode_table
from faststream_django.worker import headers as names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aio_pika import IncomingMessage

__all__ = ["Failure", "copy_of", "lightened", "restore"]

MOST_LEFT_OUT = 20
"""How many names of headers are listed that could not be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is known about a message that failed."""

    queue: str
    """The queue that it was consumed from."""
    attempts: int
    """How often it was handled, with this time."""
    reason: str
    error: str
    """The type and the place of the error, without values of the message."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def headers(self, raw: IncomingMessage) -> dict[str, Any]:
        """Return what the copy says about itself."""
        return {
            names.ATTEMPTS: self.attempts,
            names.QUEUE: self.queue,
            names.EXCHANGE: raw.exchange or "",
            names.ROUTING_KEY: raw.routing_key or "",
            names.REASON: self.reason,
            names.ERROR: self.error,
            names.FAILED_AT: self.at,
        }


def copy_of(raw: IncomingMessage, failure: Failure, queue: str) -> Message:
    """Return the message for another queue.

    Everything that its publisher wrote is kept, apart from its expiration, which would cut a wait short, and
    its user id, which RabbitMQ only takes from that user. It is made by hand, since Message.encode() refuses
    more than other publishers may send.
    """
    return Message(
        body=raw.body,
        routing_key=queue,
        headers={**names.user_headers(raw.headers), **failure.headers(raw)},
        content_type=raw.content_type,
        content_encoding=raw.content_encoding,
        message_id=raw.message_id or "",
        correlation_id=raw.correlation_id or "",
        reply_to=raw.reply_to,
        priority=raw.priority or None,
        timestamp=raw.timestamp or failure.at,
        message_type=raw.type,
        app_id=raw.app_id or "",
    )


def restore(raw: IncomingMessage, queue: str) -> None:
    """Give a message that comes from a retry queue the exchange and the routing key of its publisher.

    FastStream reads them, as for a subscriber with `Path()`.
    """
    headers: Mapping[str, Any] = raw.headers
    if headers.get(names.QUEUE) != queue or raw.exchange or raw.routing_key != queue:
        return  # the headers were copied to another message
    exchange, routing_key = headers.get(names.EXCHANGE), headers.get(names.ROUTING_KEY)
    if isinstance(exchange, str) and isinstance(routing_key, str):
        raw.exchange, raw.routing_key = exchange, routing_key


def lightened(message: Message) -> Message | None:
    """Return the message with fewer headers of its publisher, or None if it has none.

    Those go first that AMQP cannot carry, then the larger half of the others. Their names are in a header.
    """
    ours = {name: value for name, value in message.headers.items() if name in names.OF_THE_WORKER}
    sizes = {name: _size(name, value) for name, value in message.headers.items() if name not in ours}
    if not sizes:
        return None
    gone = [name for name, size in sizes.items() if size is None]
    if not gone:
        largest = sorted(sizes, key=lambda name: sizes[name] or 0, reverse=True)
        gone = largest[: (len(largest) + 1) // 2]
    kept = {name: value for name, value in message.headers.items() if name not in gone and name not in ours}
    listed = [*ours.pop(names.LEFT_OUT, []), *(name[:100] for name in gone)][:MOST_LEFT_OUT]
    return replace(message, headers={**kept, **ours, names.LEFT_OUT: listed})


def _size(name: str, value: Any) -> int | None:
    try:
        return len(encode_table({name: value}))
    except (TypeError, ValueError):
        return None
