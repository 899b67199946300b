"""A node that stops answering while a site goes on publishing: what that costs in memory."""

import asyncio
import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from faststream_django.exceptions import PublishError, TooManyInFlight
from faststream_django.messages import Message

from .site import Site

RATE = 500  # attempts a second
BODY = b"x" * 1000
TICK = 0.02


@dataclass(slots=True)
class Stall:
    """What was seen. Memory in bytes, times in seconds."""

    growth: int = 0
    attempts: int = 0
    longest: float = 0.0
    refusals: list[float] = field(default_factory=list)
    """How long each TooManyInFlight took."""
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def refusal(self) -> float:
        return statistics.median(self.refusals) if self.refusals else float("inf")

    def __str__(self) -> str:
        return (
            f"attempts={self.attempts} growth={self.growth / 2**20:.1f}MB longest={self.longest:.3f} "
            f"refusal={self.refusal * 1000:.2f}ms outcomes={dict(self.outcomes)}"
        )


def stall(site: Site, seconds: float) -> Stall:
    """Pause the node for so long, with attempts all the time; resume it and wait for every caller."""
    return asyncio.run(_stall(site, seconds))


async def _stall(site: Site, seconds: float) -> Stall:
    seen = Stall()
    for _ in range(1000):
        await site.connection.asend(Message.encode(BODY, site.queue))
    before = resident()
    site.node.pause()
    end = time.monotonic() + seconds
    calls: set[asyncio.Task[None]] = set()
    while time.monotonic() < end:
        tick = time.monotonic()
        for _ in range(int(RATE * TICK)):
            task = asyncio.create_task(_attempt(site, seen))
            calls.add(task)
            task.add_done_callback(calls.discard)
        seen.growth = max(seen.growth, resident() - before)
        await asyncio.sleep(TICK - (time.monotonic() - tick))
    site.node.resume()
    if calls:
        await asyncio.wait(calls)
    return seen


async def _attempt(site: Site, seen: Stall) -> None:
    seen.attempts += 1
    started = time.monotonic()
    outcome = "confirmed"
    try:
        await site.connection.asend(Message.encode(BODY, site.queue))
    except PublishError as error:
        outcome = type(error).__name__
        if isinstance(error, TooManyInFlight):
            seen.refusals.append(time.monotonic() - started)
    seen.outcomes[outcome] += 1
    seen.longest = max(seen.longest, time.monotonic() - started)


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
