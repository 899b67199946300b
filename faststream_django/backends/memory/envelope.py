"""A message inside the embedded broker: sealed as AMQP would carry it, opened for each reader."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pamqp.commands import Basic

    from faststream_django.messages.message import Message

__all__ = ["DeathReason", "Envelope", "as_message", "bury", "is_cycle", "strings"]

DeathReason = Literal["rejected", "expired", "maxlen", "delivery_limit"]


@dataclass(slots=True, eq=False, kw_only=True)
class Envelope:
    """One message in one queue.

    Its properties are kept encoded: what a reader changes is not seen by the next one, and values
    arrive as they do from RabbitMQ (a timestamp in whole seconds, for example).
    """

    exchange: str
    routing_key: str
    copy_keys: Sequence[str] = ()
    """The keys of its headers CC and BCC, which it was routed by too."""
    header: bytes
    body: bytes
    ttl: float | None = None
    expires_at: float | None = None
    deliveries: int = 0

    @classmethod
    def seal(
        cls,
        exchange: str,
        routing_key: str,
        properties: Basic.Properties,
        body: bytes,
        copy_keys: Sequence[str] = (),
    ) -> Envelope:
        from pamqp.header import ContentHeader

        return cls(
            exchange=exchange,
            routing_key=routing_key,
            copy_keys=copy_keys,
            header=ContentHeader(body_size=len(body), properties=properties).marshal(),
            body=body,
            ttl=int(properties.expiration) / 1000 if properties.expiration else None,
        )

    def open(self) -> Basic.Properties:
        """Return the properties, a new object each time."""
        from pamqp.header import ContentHeader

        from faststream_django.backends.rabbit.properties import Properties

        header = ContentHeader(properties=Properties())
        header.unmarshal(self.header)
        return header.properties

    def copy(self) -> Envelope:
        """Return the same message for another queue, which has its own limits."""
        return replace(self, expires_at=None, deliveries=0)

    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.monotonic()


def as_message(envelope: Envelope) -> Message:
    """Return the message as a publisher would write it."""
    from faststream_django.backends.rabbit.properties import received

    message = received(envelope.open(), envelope.body, envelope.routing_key)
    return replace(message, exchange=envelope.exchange, expiration=envelope.ttl)


def bury(queue: str, envelope: Envelope, reason: DeathReason) -> Basic.Properties:
    """Return the properties of the dead letter: RabbitMQ's ``x-death`` added, no expiration."""
    properties = envelope.open()
    headers: dict[str, Any] = dict(properties.headers or {})
    deaths = _deaths(headers)
    earlier = [d for d in deaths if (d.get("queue"), d.get("reason")) == (queue, reason)]
    death: dict[str, Any] = {
        "count": (earlier[0]["count"] if earlier else 0) + 1,
        "reason": reason,
        "queue": queue,
        "time": datetime.now(tz=UTC),
        "exchange": envelope.exchange,
        "routing-keys": [envelope.routing_key, *strings(headers.get("CC"))],
    }
    if properties.expiration:
        death["original-expiration"] = properties.expiration
        properties.expiration = None
    headers["x-death"] = [death, *(d for d in deaths if d not in earlier)]
    headers.setdefault("x-first-death-queue", queue)
    headers.setdefault("x-first-death-reason", reason)
    headers.setdefault("x-first-death-exchange", envelope.exchange)
    properties.headers = headers
    return properties


def is_cycle(queue: str, properties: Basic.Properties, reason: DeathReason) -> bool:
    """Tell whether a dead letter comes back to a queue without any consumer having rejected it.

    RabbitMQ drops such a message: it would go round for ever by itself.
    """
    if reason == "rejected":
        return False
    for death in _deaths(properties.headers or {}):
        if death.get("reason") == "rejected":
            return False
        if death.get("queue") == queue:
            return True
    return False


def strings(value: object) -> list[str]:
    """Return the strings of a list, as RabbitMQ reads CC and BCC."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _deaths(headers: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    deaths = headers.get("x-death")
    return [d for d in deaths if isinstance(d, dict)] if isinstance(deaths, list) else []
