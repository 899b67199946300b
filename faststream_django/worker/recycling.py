"""When a process has done enough, and another one shall take its place."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Recycling", "resident_bytes"]

MEGABYTE = 1_000_000
STATM = "/proc/self/statm"


@dataclass(frozen=True, slots=True)
class Recycling:
    """What a process may do before it ends; None: without a limit."""

    messages: int | None = None
    memory: int | None = None
    """In megabytes of resident memory."""

    def reason(self, handled: int) -> str:
        """Say why the process shall end, after so many messages, or return an empty text."""
        if self.messages is not None and handled >= self.messages:
            return f"{handled:,} messages were handled (--max-messages {self.messages})"
        if self.memory is not None and (used := resident_bytes()) > self.memory * MEGABYTE:
            return f"{used / MEGABYTE:,.0f} MB are in use (--max-memory {self.memory})"
        return ""


def resident_bytes() -> int:
    """Return how much memory the process has in use; where only its peak is known, that."""
    try:
        pages = Path(STATM).read_text().split()[1]
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return int(pages) * resource.getpagesize()
