"""OUTBOX: how the messages of an alias wait in the database, and how they leave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faststream_django.conf.setting import Reader, Setting

__all__ = ["OutboxSettings", "read_outbox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxSettings:
    """The entry "OUTBOX" of an alias; times in seconds."""

    eager: bool = True
    """Whether the process that commits sends at once what has neither a key nor a moment of its own."""
    grace: float = 5.0
    """How long after the call a message is the committing process's before it is the relay's."""
    max_attempts: int = 10
    """After so many refusals of the broker a message is dead. An outage is no refusal."""
    backoff: tuple[float, float] = (1.0, 600.0)
    """The first and the longest wait after a refusal; it doubles in between."""
    lease: float = 15.0
    """How long after the last sign of life of a relay another one takes over."""
    batch: int = 500
    """How many messages the relay reads, sends and deletes at a time."""
    hold_keys: bool = False
    """Whether a dead message holds back the later ones of its ordering key until somebody decides."""
    retain_dead: float | None = None
    """How long dead messages are kept; None: until somebody retries or discards them."""
    redact: tuple[str, ...] = ()
    """Keys of bodies and headers whose values operators do not see, those of dead letters included."""


def read_outbox(given: Setting) -> OutboxSettings:
    return OutboxSettings(**given.read(_OUTBOX))


def _optional_seconds(given: Setting) -> float | None:
    return None if given.value is None else given.seconds()


def _lease(given: Setting) -> float:
    seconds = given.seconds()
    if seconds < 1:
        given.refuse("must be at least 1 second: it is renewed every third of it")
    return seconds


def _names(given: Setting) -> tuple[str, ...]:
    if not isinstance(given.value, (list, tuple)):
        given.refuse("must be a list of the names of keys")
    return tuple(given[index].name() for index in range(len(given.value)))


_OUTBOX: dict[str, tuple[str, Reader]] = {
    "EAGER": ("eager", lambda given: given.flag()),
    "GRACE": ("grace", lambda given: given.seconds()),
    "MAX_ATTEMPTS": ("max_attempts", lambda given: given.whole(1000)),
    "BACKOFF": ("backoff", lambda given: given.backoff()),
    "LEASE": ("lease", _lease),
    "BATCH": ("batch", lambda given: given.whole(5000)),
    "HOLD_KEYS": ("hold_keys", lambda given: given.flag()),
    "RETAIN_DEAD": ("retain_dead", _optional_seconds),
    "REDACT": ("redact", _names),
}
