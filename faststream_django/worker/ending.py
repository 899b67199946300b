"""Ends this process in time, whatever still runs in it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import suppress

from faststream_django.registry import brokers

__all__ = ["CUT_OFF", "end_at_once", "end_by"]

CUT_OFF = 3
"""The exit code of a process whose handlers were cut off."""

MARGIN = 0.45
"""Seconds beyond its deadline that a process may live."""
GOODBYE = 0.25
"""Seconds for what is still to be said before a process is cut off."""


def end_at_once() -> None:
    """End the process while handlers still run: with it their connections to brokers and databases end.

    Open transactions are rolled back and messages are given back in one moment. Were only the consumer's
    connection closed, another worker would get a message that a handler here goes on with.
    """
    # In a thread: a pipe that nobody reads would hold it up.
    goodbye = threading.Thread(target=_say_goodbye, daemon=True)
    goodbye.start()
    goodbye.join(GOODBYE)
    os._exit(CUT_OFF)


def end_by(deadline: float) -> None:
    """Cut the process off if it lives longer, on the clock of time.monotonic(), whatever holds it up.

    That may be a thread of a handler, which the interpreter waits for, or output that nobody reads.
    """

    def wait() -> None:
        time.sleep(max(0.0, deadline + MARGIN - time.monotonic()))
        os._exit(CUT_OFF)

    threading.Thread(target=wait, name="faststream_django-end", daemon=True).start()


def _say_goodbye() -> None:
    brokers.stop(timeout=GOODBYE / 2)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
