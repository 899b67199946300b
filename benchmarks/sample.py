"""One round of one contender, measured inside its process."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["EDGE", "MemoryWatch", "Sample", "durations", "measure"]

EDGE = 100_000
"""Messages at the beginning and at the end whose memory is compared."""
_STEP = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    messages: int
    seconds: float
    cpu_seconds: float
    """Of the whole client process: every thread, user and system."""
    median_seconds: float
    """Of one call."""
    slow_seconds: float = 0.0
    """In which 95 % of the calls are done."""
    first_bytes: int = 0
    """The most memory during the first 100,000 messages; 0 where that was not watched."""
    last_bytes: int = 0

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def cpu_per_message(self) -> float:
        return self.cpu_seconds / self.messages


def measure(work: Callable[[], list[float]], messages: int, watch: MemoryWatch | None = None) -> Sample:
    """Run `work`, which returns how long each of its calls took, in seconds."""
    cpu_started, started = time.process_time(), time.perf_counter()
    calls = work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return Sample(
        messages=messages,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        median_seconds=statistics.median(calls),
        slow_seconds=sorted(calls)[int(len(calls) * 0.95)],
        first_bytes=watch.first if watch else 0,
        last_bytes=watch.last if watch else 0,
    )


def durations(call: Callable[[], object], calls: int, pause: float = 0.0) -> list[float]:
    """Return how long each call takes; `pause` seconds are between them, and are not counted."""
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
        if pause:
            time.sleep(pause)
    return taken


class MemoryWatch:
    """Passes messages on, and notes the memory of the process at both ends of a long row of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.first = self.last = 0

    def over(self, messages: Iterable[Any]) -> Iterator[Any]:
        for index, message in enumerate(messages):
            if index % _STEP == 0:
                self._note(index)
            yield message

    def _note(self, index: int) -> None:
        if index < EDGE:
            self.first = max(self.first, _resident_bytes())
        elif index >= self._count - EDGE:
            self.last = max(self.last, _resident_bytes())


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    # The peak, in bytes on macOS and in kilobytes elsewhere: it can grow, which is what is asked.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
