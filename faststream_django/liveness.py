"""A file that tells a probe how a process is: by its age that it is alive, by its word how it is."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

__all__ = ["Liveness", "LivenessFile"]

logger = logging.getLogger("faststream_django")

INTERVAL = 1.0
"""Seconds between two touches of a file, unless there is news."""


class LivenessFile:
    """Holds a line of text; its modification time is that of the last write()."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""
        self._is_failing = False

    def begin(self, state: str) -> None:
        """Write for the first time. Raise OSError if that is not possible."""
        # Beside it and then renamed: whoever reads it finds a whole line.
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        new.write_text(f"{state}\n")
        new.replace(self._path)
        self._written = state

    def write(self, state: str) -> None:
        """Write the state, or touch the file that has it already. A file that fails ends no process."""
        try:
            if state == self._written:
                os.utime(self._path)
            else:
                self.begin(state)
            self._is_failing = False
        except OSError as error:
            self._written = ""  # it may have been deleted
            if not self._is_failing:
                self._is_failing = True
                logger.warning("liveness=%s state=not-written reason=%r", self._path, error.strerror)


class Liveness:
    """Tells how a process is as long as all parts of it move; each part notes that it does."""

    def __init__(
        self, tell: Callable[[str], None], patience: Mapping[Hashable, float], state: str = "ready"
    ) -> None:
        """`patience` is for each part the longest time in seconds between two of its notes."""
        self.state = state
        self._tell = tell
        self._patience = dict(patience)
        self._seen: dict[Hashable, float] = {}
        self._told, self._told_at = "", float("-inf")
        self._lock = threading.Lock()

    def note(self, part: Hashable) -> None:
        """Note that a part moves, in any thread. If they all do, tell a new state, or once a second."""
        with self._lock:
            now = time.monotonic()
            self._seen[part] = now
            is_due = self.state != self._told or now >= self._told_at + INTERVAL
            if is_due and self._all_move(now):
                self._told, self._told_at = self.state, now
                self._tell(self._told)

    def _all_move(self, now: float) -> bool:
        return all(
            part in self._seen and now <= self._seen[part] + patience
            for part, patience in self._patience.items()
        )
