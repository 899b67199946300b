"""A dead letter: a message that no handler took, and what its headers say about that."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from faststream_django.backends.operating import QueuedMessage
from faststream_django.worker import headers

__all__ = ["Letter"]

# What a message gets anew, or may not have when somebody else publishes it: an expiration counts from then
# on, and RabbitMQ refuses the user_id of another.
_NOT_REPLAYED = ("expiration", "user_id")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Letter:
    """A message in the dead letters of a queue; its repr shows nothing of it."""

    queue: str
    """The queue whose dead letters it lies in."""
    message: QueuedMessage

    @property
    def id(self) -> str:
        """The id of the message; for one without, a name that follows from what it is."""
        given = self.message.properties.message_id
        return given if isinstance(given, str) and given else f"~{self._digest()}"

    @property
    def failed_at(self) -> datetime | None:
        """When it failed last."""
        value = self.message.headers.get(headers.FAILED_AT)
        if not isinstance(value, datetime):
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value

    @property
    def attempts(self) -> int:
        """How often it was handled."""
        return headers.attempts_of(self.message.headers)

    @property
    def reason(self) -> str:
        """Why it is here, in one word; for what RabbitMQ itself brought here, the word of RabbitMQ."""
        return self._text(headers.REASON) or self._text("x-first-death-reason")

    @property
    def error(self) -> str:
        """The type of the error and its place."""
        return self._text(headers.ERROR)

    @property
    def origin(self) -> str | None:
        """The queue that it was consumed from, as the worker or RabbitMQ wrote it down."""
        return self._text(headers.QUEUE) or self._text("x-first-death-queue") or None

    def age(self, now: datetime) -> float | None:
        """Return the seconds since it failed."""
        failed_at = self.failed_at
        return None if failed_at is None else max(0.0, (now - failed_at).total_seconds())

    def fresh_properties(self, target: str) -> Any:
        """Return the properties for another life: with what its publisher wrote, and nothing of its death.

        Where it came through an exchange, that and the routing key stay in its headers: the worker that
        consumes it from its target restores them, for subscribers with `Path()`.
        """
        kept = headers.user_headers(self.message.headers)
        if exchange := self._text(headers.EXCHANGE):
            kept |= {
                headers.QUEUE: target,
                headers.EXCHANGE: exchange,
                headers.ROUTING_KEY: self._text(headers.ROUTING_KEY),
            }
        properties = copy.copy(self.message.properties)
        properties.headers = kept or None
        for name in _NOT_REPLAYED:
            setattr(properties, name, None)
        return properties

    def _text(self, name: str) -> str:
        value = self.message.headers.get(name)
        return value if isinstance(value, str) else ""

    def _digest(self) -> str:
        # Without what RabbitMQ counts in the headers whenever somebody looks.
        written = sorted(headers.user_headers(self.message.headers).items())
        parts = (self.message.body, repr((written, self.failed_at)).encode())
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
