"""Several worker processes and the one that looks after them: it starts, replaces and stops them."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from faststream_django.worker.child import Child
from faststream_django.worker.ending import CUT_OFF
from faststream_django.worker.stopping import TICK, stop_signals
from faststream_django.worker.supervision import HURRY, STOP

if TYPE_CHECKING:
    from faststream_django.liveness import LivenessFile

__all__ = ["USAGE", "Processes"]

logger = logging.getLogger("faststream_django.worker")

USAGE = 2
"""The exit code of a process that cannot do what it is asked for."""

KILL_AFTER = 1.0
"""Seconds beyond the limit after which a process that does not end is killed."""


@dataclass(frozen=True, slots=True)
class _Stop:
    reason: str


@dataclass(frozen=True, slots=True)
class _Hurry:
    """Have no process wait for its handlers any more."""


@dataclass(frozen=True, slots=True)
class _Changed:
    """The code of the project has changed."""


@dataclass(frozen=True, slots=True)
class _Ended:
    child: Child
    code: int


_Event: TypeAlias = _Stop | _Hurry | _Changed | _Ended


class Processes:
    """Runs so many processes of this command until it is told to stop."""

    def __init__(
        self,
        count: int,
        *,
        shutdown_timeout: float,
        liveness: LivenessFile | None = None,
        on_stopping: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`on_stopping` is told when the last process will have ended, on the clock of time.monotonic()."""
        self._timeout = shutdown_timeout
        self._liveness = liveness
        self._on_stopping = on_stopping
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._children = [Child(number) for number in range(1, count + 1)]
        self._kill_at = float("inf")
        self._is_stopping = False
        self._codes: list[int] = []
        """Of those that ended after they were told to stop."""

    def retry(self) -> None:
        """Wait no longer to replace those that crashed: the code has changed; from any thread."""
        self._events.put(_Changed())

    def run(self) -> int:
        """Return the worst of the exit codes of those that it stopped, once they have ended."""
        with stop_signals(lambda name: self._events.put(_Stop(name)), lambda: self._events.put(_Hurry())):
            while not (self._is_stopping and not self._running()):
                self._start_what_is_due()
                event = self._next_event()
                if event is not None:
                    self._react(event)
                self._kill_what_is_late()
                self._report()
        return _worst(self._codes)

    def _note_end(self, child: Child, code: int) -> None:
        self._events.put(_Ended(child, code))

    def _running(self) -> list[Child]:
        return [child for child in self._children if child.is_running]

    def _start_what_is_due(self) -> None:
        for child in self._children:
            if not (self._is_stopping or child.is_running) and child.due <= time.monotonic():
                self._start(child)

    def _start(self, child: Child) -> None:
        try:
            child.start(self._note_end)
        except OSError as error:  # no memory, too many processes
            child.fail()
            logger.warning(
                "process=%d state=not-started reason=%r again_in=%.0fs",
                child.number,
                str(error),
                child.due - time.monotonic(),
            )

    def _next_event(self) -> _Event | None:
        until = [self._kill_at, time.monotonic() + TICK]
        if not self._is_stopping:
            until += [child.due for child in self._children if not child.is_running]
        try:
            return self._events.get(timeout=max(0.0, min(until) - time.monotonic()))
        except Empty:
            return None

    def _react(self, event: _Event) -> None:
        match event:
            case _Stop(reason):
                self._begin_stop(reason)
            case _Hurry():
                self._kill_at = min(self._kill_at, time.monotonic() + KILL_AFTER)
                for child in self._running():
                    child.tell(HURRY)
            case _Changed():
                for child in self._children:
                    child.due = 0.0
            case _Ended(child, code):
                self._replace(child, code)

    def _begin_stop(self, reason: str) -> None:
        if self._is_stopping:
            return
        running = self._running()
        self._is_stopping = True
        self._kill_at = time.monotonic() + self._timeout + KILL_AFTER
        for child in running:
            child.tell(STOP)
        self._on_stopping(self._kill_at)
        logger.info("state=stopping reason=%r processes=%d", reason, len(running))

    def _replace(self, child: Child, code: int) -> None:
        pid = child.end(code)
        if self._is_stopping:
            self._codes.append(code)
        elif code == USAGE and child.starts == 1:
            self._codes.append(code)  # it has said why, and the next one would say the same
            self._begin_stop("wrong usage")
        elif child.failures:
            logger.warning(
                "process=%d pid=%d state=crashed code=%s again_in=%.0fs",
                child.number,
                pid,
                _spoken(code),
                child.due - time.monotonic(),
            )
        else:
            logger.info("process=%d pid=%d state=ended code=%s", child.number, pid, _spoken(code))

    def _kill_what_is_late(self) -> None:
        if time.monotonic() >= self._kill_at:
            self._kill_at = float("inf")
            for child in self._running():
                child.kill()

    def _report(self) -> None:
        if self._liveness is None:
            return
        for child in self._children:
            child.listen()
        if all(child.moves for child in self._children):
            self._liveness.write("stopping" if self._is_stopping else self._state())

    def _state(self) -> str:
        waited_for = [
            f"process {each.number} ({each.state})" for each in self._children if each.state != "ready"
        ]
        return f"waiting for {', '.join(waited_for)}" if waited_for else "ready"


def _worst(codes: Collection[int]) -> int:
    # One that is told before its first line of code ends by the signal itself.
    harmless = {0, -signal.SIGTERM, -signal.SIGINT}
    if USAGE in codes:
        return USAGE
    if set(codes) - harmless - {CUT_OFF}:
        return 1
    return CUT_OFF if CUT_OFF in codes else 0


def _spoken(code: int) -> str:
    return str(code) if code >= 0 else signal.Signals(-code).name
