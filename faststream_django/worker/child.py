"""One of several worker processes, as the one that looks after them sees it."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from faststream_django.worker.ending import CUT_OFF
from faststream_django.worker.supervision import variables

__all__ = ["Child"]

logger = logging.getLogger("faststream_django.worker")

FIRST_DELAY, LAST_DELAY = 1.0, 30.0
"""Seconds until a process that crashed is replaced, doubled with each crash in a row."""
STABLE_AFTER = 60.0
"""Seconds after which a crash is not one in a row any more."""
PATIENCE = 5.0
"""Seconds without a report after which a process counts as stuck."""
BOOT_PATIENCE = 60.0
"""The same for its first report."""


class Child:
    """One of the processes, and those that take its place."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.starts = 0
        self.failures = 0
        """How often it crashed in a row."""
        self.due = 0.0
        """When it is started, on the clock of time.monotonic()."""
        self.state = "starting"
        """How it is, in its own words."""
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._started_at = self._heard_at = 0.0

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def moves(self) -> bool:
        """Whether it was heard lately. One that crashed is looked after."""
        now = time.monotonic()
        if self._process is None:
            return True
        if self._heard_at < self._started_at:
            return now < self._started_at + BOOT_PATIENCE
        return now < self._heard_at + PATIENCE

    def start(self, on_end: Callable[[Child, int], None]) -> None:
        """Run the command of this process once more: a new interpreter, which inherits one socket.

        `on_end` is called in a thread, with the exit code. Raise OSError if there can be no process.
        """
        self._connection, theirs = socket.socketpair()
        self._connection.setblocking(False)  # noqa: FBT003
        with theirs:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, **variables(theirs, self.number)},
                pass_fds=[theirs.fileno()],
            )
        self._process = process
        self.starts += 1
        self._started_at = time.monotonic()
        threading.Thread(
            target=lambda: on_end(self, process.wait()),
            name=f"faststream_django-process-{self.number}",
            daemon=True,
        ).start()

    def end(self, code: int) -> int:
        """Note its end, and when it is replaced; return its pid."""
        assert self._process is not None  # noqa: S101
        pid, self._process = self._process.pid, None
        if self._connection is not None:
            self._connection.close()
        self.state = "starting"
        if code in {0, CUT_OFF}:
            self.failures = 0
            self.due = self._started_at + FIRST_DELAY
        else:
            if time.monotonic() - self._started_at >= STABLE_AFTER:
                self.failures = 0
            self.fail()
        return pid

    def fail(self) -> None:
        """Note a failure, and when the next attempt is made."""
        self.failures += 1
        self.due = time.monotonic() + min(FIRST_DELAY * 2.0 ** min(self.failures - 1, 10), LAST_DELAY)

    def tell(self, word: bytes) -> None:
        if self._connection is not None:
            with suppress(OSError):  # it has just ended
                self._connection.send(word)

    def listen(self) -> None:
        """Take in what it has reported."""
        if self._process is None or self._connection is None:
            return
        with suppress(OSError):
            lines = self._connection.recv(65536).decode().splitlines()
            if lines:
                self.state, self._heard_at = lines[-1], time.monotonic()

    def kill(self) -> None:
        if self._process is not None:
            logger.error("process=%d pid=%d state=killed", self.number, self._process.pid)
            self._process.kill()
