"""How long it takes until another relay sends."""

import signal
import time

from .family import RELAY, Family, wait_until

WAYS = {"kill -9": signal.SIGKILL, "freeze": signal.SIGSTOP, "SIGTERM": signal.SIGTERM}
AGAIN = 60.0  # seconds after which a takeover is given up


def take_over(family: Family, way: str) -> float:
    """End the leader of two relays in this way; return the seconds until the next message is sent."""
    for name in ("relay0", "relay1"):
        family.start(name, *RELAY)
    try:
        wait_until(family.leader, AGAIN, "a leader")
        family.store(1, "key")
        wait_until(lambda: not family.left(), AGAIN, "the first message")
        # The other one is to be waiting, and not on its way there.
        wait_until(lambda: family.listening() == 2, AGAIN, "the other relay")
        name, began = family.leader(), time.monotonic()
        family.send(name, WAYS[way])
        family.store(1, "key")
        wait_until(lambda: not family.left(), AGAIN, "the message after it")
        return time.monotonic() - began
    finally:
        for name in ("relay0", "relay1"):
            family.end(name)
