"""Ends a command without cutting what is under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["signals_stop"]


@contextmanager
def signals_stop(stop: Callable[[], None], *, is_program: bool = False) -> Iterator[None]:
    """Have the signals that would end the process call `stop`; only the main thread can.

    What is ignored, as under nohup, stays so. With `is_program` the process ends after this: once one of the
    signals came, those that follow it change nothing about the exit code.
    """
    has_come = False

    def on_signal(*_: object) -> None:
        nonlocal has_come
        has_come = True
        stop()

    is_main = threading.current_thread() is threading.main_thread()
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if is_main else []
    previous = {number: signal.getsignal(number) for number in numbers}
    caught = {
        number: handler for number, handler in previous.items() if handler not in {signal.SIG_IGN, None}
    }
    for number in caught:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, signal.SIG_IGN if has_come and is_program else handler)
