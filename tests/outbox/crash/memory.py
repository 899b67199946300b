"""A relay before more messages than it should ever hold."""

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from .family import RELAY, Family

EVERY = 0.5  # seconds between two looks
WARM = 20_000  # messages after which the relay has all that it needs
STALLED = 120.0


@dataclass(slots=True)
class Memory:
    """What was seen, once the relay was warm; bytes."""

    resident: list[int] = field(default_factory=list)
    """In the order of time."""
    seconds: float = 0.0
    """How long all of it took."""

    @property
    def growth(self) -> int:
        return max(self.resident) - self.resident[0]

    def __str__(self) -> str:
        steps = self.resident[:: max(1, len(self.resident) // 8)]
        return f"MB over time: {', '.join(f'{each / 2**20:.1f}' for each in (*steps, self.resident[-1]))}"


def watch_memory(family: Family, count: int) -> Memory:
    """Have a relay send so many messages."""
    seen = Memory()
    family.store(count)
    family.start("relay", *RELAY)
    began = moved = time.monotonic()
    last = 0
    while (sent := _sent(family, count)) < count:
        family.refuse_deaths()
        if sent != last:
            last, moved = sent, time.monotonic()
        if time.monotonic() > moved + STALLED:
            raise TimeoutError(f"{sent:,} of {count:,} messages, and no more in {STALLED:g} s")
        if sent >= WARM:
            seen.resident.append(_resident(family.pid("relay")))
        time.sleep(EVERY)
    seen.seconds = time.monotonic() - began
    family.send("relay", signal.SIGTERM)
    family.wait("relay")
    return seen


def _sent(family: Family, count: int) -> int:
    """Return the messages that are not in the table, in which the ids have no gaps."""
    first = family.ask("SELECT min(id) FROM faststream_outbox")
    return count if first is None else int(first) - 1


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
