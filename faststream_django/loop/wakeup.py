"""Wakes an event loop from another thread, for one purpose."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from io import FileIO

__all__ = ["Wakeup"]

ONE = (1).to_bytes(8, sys.byteorder)


class Wakeup:
    """Has a loop call a function soon, whatever number of threads ask for it meanwhile.

    loop.call_soon_threadsafe() does that too, and makes an object and three system calls each time; with
    eventfd(2) there are two. Used where Linux has it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_wake: Callable[[], None]) -> None:
        self._loop = loop
        self._on_wake = on_wake
        self._counter: FileIO | None = None
        if hasattr(os, "eventfd"):
            # A file object, and not its number: when it is closed the number may soon be another file's.
            self._counter = FileIO(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+")
            loop.add_reader(self._counter, self._answer)

    def wake(self) -> None:
        """Ask for a call, from any thread. Raise RuntimeError or ValueError if the loop is closed."""
        if self._counter is not None:
            self._counter.write(ONE)
        else:
            self._loop.call_soon_threadsafe(self._on_wake)

    def close(self) -> None:
        if self._counter is not None:
            self._counter.close()

    def _answer(self) -> None:
        if self._counter is not None:
            self._counter.read(len(ONE))
        self._on_wake()
