"""A row as the relay has read it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from faststream_django.messages.message import Message
from faststream_django.outbox.rows import decode_properties

__all__ = ["COLUMNS", "Row"]

COLUMNS = (
    "id",
    "ordering_key",
    "attempts",
    "message_id",
    "exchange",
    "routing_key",
    "body",
    "properties",
    "expires_at",
    "state",
    "due",
)


@dataclass(slots=True, eq=False)
class Row:
    """What the relay needs to know of a message; in the order of COLUMNS."""

    id: int
    ordering_key: str
    attempts: int
    message_id: str
    exchange: str
    routing_key: str
    body: Any
    properties: str
    expires_at: float | None
    state: int
    due: float | None
    now: float
    """The moment of the reading, by the clock of the database."""
    read_at: float
    """And by that of time.monotonic()."""

    @property
    def remaining(self) -> float | None:
        """The seconds that are left of the message's expiration, if it has one."""
        if self.expires_at is None:
            return None
        return self.expires_at - self.now - (time.monotonic() - self.read_at)

    def message(self) -> Message:
        """Return the message, with what is left of its expiration; raise anything if it cannot be made."""
        return Message(
            body=bytes(self.body),
            exchange=self.exchange,
            routing_key=self.routing_key,
            message_id=self.message_id,
            expiration=self.remaining,
            **decode_properties(self.properties),
        )
