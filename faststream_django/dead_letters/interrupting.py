"""Ends a command without cutting what is under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["signals_stop"]


@contextmanager
def signals_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Have the signals that would end the process call `stop`; only the main thread can.

    What is ignored, as under nohup, stays so.
    """
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if is_main else []
    previous = {number: signal.getsignal(number) for number in numbers}
    caught = {
        number: handler for number, handler in previous.items() if handler not in {signal.SIG_IGN, None}
    }
    for number in caught:
        signal.signal(number, lambda *_: stop())
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
