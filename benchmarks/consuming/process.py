"""A worker in processes of its own, which stand still between the rounds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.consuming.assignment import Assignment
from tests.nodes import OwnedProcess

__all__ = ["WorkerProcess"]

_ROOT = Path(__file__).parent.parent.parent
_SETTINGS = "benchmarks.consuming.settings"
_STOP_TIMEOUT = 15.0
_PAUSE = 0.001  # seconds between two looks


class WorkerProcess:
    """A worker and the processes that it starts; it ends with the process that started it."""

    def __init__(self, arguments: Sequence[str], told: Assignment, *, is_site: bool) -> None:
        environment = {**os.environ, **told.environment()}
        if is_site:
            environment["DJANGO_SETTINGS_MODULE"] = _SETTINGS
        self._folder = tempfile.TemporaryDirectory()
        self._process = OwnedProcess(
            [sys.executable, "-m", *arguments],
            env=environment,
            directory=_ROOT,
            log=Path(self._folder.name) / "worker.log",
        )
        self._all: list[psutil.Process] = []

    def wait_until(self, condition: Callable[[], bool], *, timeout: float, what: str) -> None:
        """Look until it is so. Raise RuntimeError, with what the worker printed, if it does not come."""
        deadline = time.perf_counter() + timeout
        while not condition():
            if not self._process.is_running:
                raise RuntimeError(f"the worker ended before {what}:\n{self._process.last_words()}")
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{what} took more than {timeout:.0f} s:\n{self._process.last_words()}")
            time.sleep(_PAUSE)

    def suspend(self) -> None:
        """Have all processes stand still."""
        self._all = self._find()
        for process in self._all:
            process.suspend()

    def resume(self) -> None:
        for process in self._all:
            process.resume()

    def cpu_seconds(self) -> float:
        """Return what all processes have used, user and system."""
        times = [process.cpu_times() for process in self._all]
        return sum(each.user + each.system for each in times)

    def stop(self) -> None:
        """End it, as an operator does; and then not so."""
        self.resume()
        self._process.send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT)
        self._process.kill()
        self._folder.cleanup()

    def _find(self) -> list[psutil.Process]:
        """Return the worker and its children, without the shell that watches over them."""
        worker = psutil.Process(self._process.pid)
        program = worker.exe()
        return [worker, *(child for child in worker.children(recursive=True) if child.exe() == program)]
