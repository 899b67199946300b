"""Imports on the loop thread that do not get in the way of those of other threads.

Python locks each module while it is imported, and ``import a.b`` locks a.b before its parent a. So a thread
that begins with ``faststream.middlewares`` (the urls.py of a site) and one that begins with ``faststream``
(the loop thread) soon wait for each other. Python notices, and gives one of them a module that is half done:
ImportError, or KeyError. Knows neither Django nor FastStream.
"""

from __future__ import annotations

import _imp
import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["others_import", "quiet", "undisturbed"]

# Seconds between two looks at what other threads do.
PAUSE = 0.02


def others_import() -> bool:
    """Tell whether another thread is in the middle of an import."""
    me = threading.get_ident()
    return any(ident != me and _is_importing(frame) for ident, frame in sys._current_frames().items())  # noqa: SLF001


async def quiet(timeout: float) -> None:
    """Return when no other thread is in the middle of an import, or after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while others_import() and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody tells when it is so
        await asyncio.sleep(PAUSE)


@contextmanager
def undisturbed(timeout: float) -> Iterator[None]:
    """Have every other thread wait that wants to import what is not imported yet.

    Waits for `timeout` seconds at most until nobody else is in the middle of an import, as a program may be
    for all its life; then there is nothing to hold up the others with. Where threads are greenlets it
    neither waits nor holds anybody up.
    """
    if _has_greenlets():
        yield
        return
    deadline = time.monotonic() + timeout
    while not (is_alone := _hold_others_up()) and time.monotonic() < deadline:
        time.sleep(PAUSE)
    try:
        yield
    finally:
        if is_alone:
            _imp.release_lock()


def _has_greenlets() -> bool:
    """Tell whether threads are gevent's greenlets: one that imports is not seen while others run."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _hold_others_up() -> bool:
    """Take the lock that every import needs for a moment before it takes the lock of its module.

    Only if nobody has a module locked already: that thread would wait for us, and we perhaps for its module,
    for ever. Where the lock is ours no thread can lock a module, so whoever is seen in no import has none.
    """
    _imp.acquire_lock()
    if others_import():
        _imp.release_lock()
        return False
    return True


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_find_and_load" and code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
