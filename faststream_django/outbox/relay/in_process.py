"""The relays of the embedded brokers: in the process that publishes, since no other reaches them."""

from __future__ import annotations

import atexit
import logging
import os
from typing import TYPE_CHECKING

from faststream_django.guard import runs_tests
from faststream_django.outbox.relay.pairs import embedded_pairs

if TYPE_CHECKING:
    from faststream_django.outbox.relay.running import Relays

__all__ = ["relay_in_process"]

logger = logging.getLogger("faststream_django.outbox")

EXITING = 2.0
"""How long the exit of the process waits for the batch that is under way."""

_relays: dict[int, Relays | None] = {}
"""By process id, so that a forked child finds nothing of its parent's; None: there is nothing to relay."""


def relay_in_process() -> None:
    """Relay from now on for the embedded brokers that have an outbox, unless tests run. Never raises.

    A forked child starts its own with its first message; of all of them one leads.
    """
    if os.getpid() in _relays or runs_tests():
        return
    try:
        relays = _make()
        if _relays.setdefault(os.getpid(), relays) is relays and relays is not None:
            atexit.register(_stop, relays, os.getpid())
            relays.start()
    except Exception:
        logger.exception("The relays of the embedded brokers do not start")


def _make() -> Relays | None:
    pairs = embedded_pairs()
    if not pairs:
        return None
    # Here, since most sites have no embedded broker, and all of them are started.
    from faststream_django.outbox.relay.running import Relays

    return Relays(pairs)


def _stop(relays: Relays, process: int) -> None:
    """Leave the leases to the next process."""
    if process == os.getpid():
        relays.stop(EXITING)
