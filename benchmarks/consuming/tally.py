"""How many messages were handled: every process of a worker counts in a file, which another one reads.

It costs a handler a fraction of a microsecond, the same in every framework, and no system call.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from pathlib import Path

__all__ = ["Tallies", "Tally"]

_SIZE = 8
_SUFFIX = ".count"


class Tally:
    """The count of this process, and of a fork of it one of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def add(self) -> None:
        """Count one message; from any thread."""
        with self._lock:
            self._count[0] += 1

    def _begin(self) -> None:
        self._lock = threading.Lock()
        unfinished = self._folder / f"{os.getpid()}.new"
        unfinished.write_bytes(bytes(_SIZE))
        with unfinished.open("r+b") as file:
            self._count = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("Q")
        unfinished.rename(unfinished.with_suffix(_SUFFIX))


class Tallies:
    """Reads what all processes of a worker have counted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: dict[Path, mmap.mmap] = {}

    def total(self) -> int:
        for path in self._folder.iterdir():
            if path.suffix == _SUFFIX and path not in self._counts:
                with path.open("rb") as file:
                    self._counts[path] = mmap.mmap(file.fileno(), _SIZE, prot=mmap.PROT_READ)
        return sum(int.from_bytes(count[:], sys.byteorder) for count in self._counts.values())
