"""Notices an event loop that does not turn, for whoever waits for it in vain."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Callable

__all__ = ["Watchdog"]

logger = logging.getLogger("faststream_django")

# Seconds from one beat to the next: how wrong the lag may be.
BEAT = 0.25
# A loop that does not turn for longer is blocked, and not just busy.
TOO_LONG = 1.0
# The innermost frames of what blocks the loop.
FRAMES = 8


class Watchdog:
    """Knows since when a loop should have turned. Beats on the loop, and only while somebody waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, is_awaited: Callable[[], bool]) -> None:
        self._loop = loop
        self._is_awaited = is_awaited
        self.is_beating = False
        self._due = 0.0
        self._is_reported = False

    def expect(self) -> None:
        """Note, in any thread, that the loop is to wake up now; not while it beats."""
        self._due = time.monotonic()

    def begin(self) -> None:
        """Note, on the loop, that somebody waits; not while it beats."""
        self.is_beating = True
        self._beat()

    def _beat(self) -> None:
        self._is_reported = False
        if self._is_awaited():
            self._due = time.monotonic() + BEAT
            self._loop.call_later(BEAT, self._beat)
        else:
            self.is_beating = False

    def report(self, thread_id: int | None) -> None:
        """Log, once, that the loop has not turned for too long, and what its thread does instead."""
        lag = time.monotonic() - self._due
        if lag > TOO_LONG and not self._is_reported:
            self._is_reported = True
            frame = sys._current_frames().get(thread_id or 0)  # noqa: SLF001
            logger.warning(
                "The loop thread has been blocked for %.1f s; nothing is sent or confirmed meanwhile. "
                "It is here:\n%s",
                lag,
                "".join(traceback.format_stack(frame, limit=FRAMES)) if frame else "(it has ended)",
            )
