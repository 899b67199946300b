"""Where a contender finds the servers of a run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Addresses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    amqp: str
    stomp_port: int = 0
    database: str = ""
    """The URL of a database of PostgreSQL that is the contender's own."""
