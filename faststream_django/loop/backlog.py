"""What threads leave behind for one thread of the process, which takes it up by the batch.

Knows neither Django nor what is left. Everything may be lost: a process that ends, or forks, or has too much
of it keeps no promise, so whoever leaves something must have it elsewhere.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from faststream_django.loop.calls import LoopStopped
from faststream_django.loop.thread import LoopThread, loop_thread

__all__ = ["Backlog", "Limits", "Work"]

logger = logging.getLogger("faststream_django")

T = TypeVar("T")

CROWD = 3
"""Items that come during a batch, from which on the next one is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a backlog holds, and how long its thread is waited for; in seconds and bytes."""

    most: int = 10_000
    most_bytes: int = 64 * 1024 * 1024
    batch: int = 500
    gathering: float = 0.01
    """How long more is waited for where much comes: each batch has its price, which the GIL makes all pay."""
    idle: float = 10.0
    """After so long without work the thread gives back what it holds."""
    exiting: float = 1.5
    """How long the exit of the process waits for what is left."""
    forking: float = 3.0
    """How long a fork waits for the batch that is under way."""


class Work(Protocol[T]):
    """What the thread does. The first two are called on it, and what they raise is logged."""

    def take(self, items: list[T]) -> None:
        """Do a batch."""

    def rest(self) -> None:
        """Give back what is held, since there was nothing to do for a while, or the thread ends."""

    def weigh(self, item: T) -> int:
        """Return the bytes that an item takes."""


class Backlog(Generic[T]):
    """Has what was put in worked off, in batches and in order, on a daemon thread of this process.

    The thread starts with the first item. It ends before a fork and goes on in the parent after it; the child
    has an empty backlog and starts a thread of its own. Under gevent the thread is a greenlet.
    """

    def __init__(
        self, name: str, work: Work[T], limits: Limits | None = None, loop: LoopThread = loop_thread
    ) -> None:
        self._name = name
        self._work = work
        self._limits = limits or Limits()
        self._loop = loop
        # By process id, so that a forked child finds nothing of its parent's, also after a fork without
        # Python's hooks. setdefault() is atomic: no lock is needed, which a child could inherit locked.
        self._working: dict[int, _Working[T]] = {}
        self._is_hooked = False
        self._is_exiting = False

    def put(self, items: Iterable[T]) -> int:
        """Leave the items to the thread, as many of the first ones as there is room for; return how many."""
        if self._is_exiting or sys.is_finalizing():
            return 0
        pid = os.getpid()
        working = self._working.get(pid)
        if working is None:
            working = self._working.setdefault(pid, _Working(self._name, self._work, self._limits))
        count = working.put(items)
        if not working.is_running:
            self._start(working)
        return count

    def stop(self, timeout: float | None = None) -> None:
        """Let the thread finish what is in, `timeout` seconds at most; the next item starts another."""
        working = self._working.get(os.getpid())
        if working is not None:
            working.end(self._limits.exiting if timeout is None else timeout, finish=True)

    def _start(self, working: _Working[T]) -> None:
        try:
            # First, so that its hooks are older: at exit and before a fork ours are called first, and the
            # thread can still send what it has begun to.
            self._loop.start()
            self._hook()
            working.start()
        except (LoopStopped, RuntimeError) as error:  # at exit, or at a limit of threads
            logger.debug("The thread %r cannot be started: %s", self._name, error)

    def _hook(self) -> None:
        if not self._is_hooked:
            self._is_hooked = True
            atexit.register(self._at_exit)
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._working.clear,
            )

    def _at_exit(self) -> None:
        self._is_exiting = True
        self.stop()

    def _before_fork(self) -> None:
        working = self._working.get(os.getpid())
        # The loop is not to wait for a thread that waits for the loop.
        if working is not None and not self._loop.is_current():
            working.end(self._limits.forking, finish=False)

    def _after_fork_in_parent(self) -> None:
        working = self._working.get(os.getpid())
        if working is not None and working.items:
            self._start(working)


class _Working(Generic[T]):
    """The items of one process and the thread that takes them."""

    def __init__(self, name: str, work: Work[T], limits: Limits) -> None:
        self.items: deque[T] = deque()
        self.is_running = False
        self._name = name
        self._work = work
        self._limits = limits
        self._size = 0
        # Reentrant: a signal handler may commit a transaction too.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        # Locked while nothing has rung. put() adds and then rings, _main() answers and then looks.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._ends_at: float | None = None
        """When the thread is to end at the latest, if it is to end."""
        self._ending = threading.Event()

    def put(self, items: Iterable[T]) -> int:
        count, weigh = 0, self._work.weigh
        with self._lock:
            for item in items:
                size = self._size + weigh(item)
                if len(self.items) >= self._limits.most or size > self._limits.most_bytes:
                    break
                self.items.append(item)
                self._size = size
                count += 1
        self._ring()
        return count

    def start(self) -> None:
        """Have the thread run, or go on; raise RuntimeError where there can be none."""
        with self._lock:
            self._ends_at = None
            self._ending.clear()
            if self.is_running:
                return
            self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
            self.is_running = True
            try:
                # It must not keep the context variables of the first caller.
                contextvars.Context().run(self._thread.start)
            except BaseException:
                self.is_running = False
                raise

    def end(self, timeout: float, *, finish: bool) -> None:
        """Have the thread end after its batch, or once it has taken everything; wait `timeout` seconds."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        ends_at = time.monotonic() + (timeout if finish else 0.0)
        self._ends_at = ends_at if self._ends_at is None else min(self._ends_at, ends_at)
        self._ending.set()
        self._ring()
        thread.join(timeout)

    def _ring(self) -> None:
        if self._bell.locked():
            with contextlib.suppress(RuntimeError):  # another thread was faster
                self._bell.release()

    def _main(self) -> None:
        try:
            while self._goes_on():
                if batch := self._batch():
                    self._guarded(self._work.take, batch)
                    if CROWD <= len(self.items) < self._limits.batch:
                        self._ending.wait(self._limits.gathering)
                elif not self._bell.acquire(timeout=self._limits.idle):
                    self._guarded(self._work.rest)
                    self._bell.acquire()
        finally:
            self._guarded(self._work.rest)
            with self._lock:
                if self._thread is threading.current_thread():
                    self.is_running = False

    def _goes_on(self) -> bool:
        with self._lock:
            ends_at = self._ends_at
            if ends_at is None or (self.items and time.monotonic() < ends_at):
                return True
            self.is_running = False  # what comes from here on starts another thread
            return False

    def _batch(self) -> list[T]:
        with self._lock:
            count = min(len(self.items), self._limits.batch)
            batch = [self.items.popleft() for _ in range(count)]
            self._size -= sum(map(self._work.weigh, batch))
        return batch

    def _guarded(self, function: Callable[..., None], *args: list[T]) -> None:
        try:
            function(*args)
        except BaseException:  # also SystemExit: the thread serves everybody
            logger.exception("The thread %r could not do its work; it goes on", self._name)
