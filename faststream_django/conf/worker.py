"""WORKER: how the subscribers of an alias are run, and what becomes of messages that fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faststream_django.conf.setting import Reader, Setting

__all__ = ["LONGEST_BACKOFF", "WorkerSettings", "read_worker"]

LONGEST_BACKOFF = 2_592_000.0
"""Seconds, 30 days: RabbitMQ counts how long a message waits in 32 bits of milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The entry "WORKER" of an alias; times in seconds."""

    concurrency: int = 10
    """How many handlers that are plain functions run at once in a process, each in a thread."""
    prefetch: int | None = None
    """How many messages a subscriber holds at most; None: as many as it can handle at once."""
    attempts: int = 5
    """How often a message is handled in all before it is a dead letter."""
    backoff: tuple[float, float] = (1.0, 300.0)
    """The first and the longest wait before the next attempt; it doubles in between."""
    dead_letters: bool = True
    """Whether what fails for good is kept in a queue of dead letters, and not dropped."""


def read_worker(given: Setting) -> WorkerSettings:
    return WorkerSettings(**given.read(_WORKER))


def _prefetch(given: Setting) -> int | None:
    return None if given.value is None else given.whole(65_535)


def _backoff(given: Setting) -> tuple[float, float]:
    first, longest = given.backoff()
    if longest > LONGEST_BACKOFF:
        given.refuse(f"the longest wait must not be above {LONGEST_BACKOFF:_.0f} seconds")
    return first, longest


_WORKER: dict[str, tuple[str, Reader]] = {
    "CONCURRENCY": ("concurrency", lambda given: given.whole(1000)),
    "PREFETCH": ("prefetch", _prefetch),
    "ATTEMPTS": ("attempts", lambda given: given.whole(1000)),
    "BACKOFF": ("backoff", _backoff),
    "DEAD_LETTERS": ("dead_letters", lambda given: given.flag()),
}
