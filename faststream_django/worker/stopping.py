"""What tells a process to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["TICK", "stop_signals"]

TICK = 1.0
"""The longest wait of the main thread, in seconds: Python's handlers run in it alone, and a signal that the
system gives to another thread does not wake it."""


@contextmanager
def stop_signals(stop: Callable[[str], None], hurry: Callable[[], None]) -> Iterator[None]:
    """Call `stop` with the name of the first SIGTERM or SIGINT, and `hurry` on the next ones.

    Only the main thread can. Both are called in a signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        received.append(number)
        if len(received) == 1:
            stop(signal.Signals(number).name)
        else:
            hurry()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
