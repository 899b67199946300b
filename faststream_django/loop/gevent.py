"""Threads of the operating system, also where gevent has replaced what the standard library calls a thread.

After ``gevent.monkey.patch_all()`` a `threading.Thread` is a greenlet of its caller's own thread. An event
loop on it would be the running loop of every other greenlet there, and Django's ORM would refuse to work. So
the thread, its locks and its loop are made of the originals, and only who waits for it waits in gevent's way.
Imports gevent only where gevent has patched something.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from importlib import import_module
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

from faststream_django.loop.event_loop import EventLoop
from faststream_django.loop.threads import Lock, NoNativeThreads, Threads, of_the_standard_library

__all__ = ["native_threads"]

# Seconds. A greenlet that waits without a limit would leave its hub without anything to wait for.
FOREVER = 1e8

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


def native_threads() -> Threads:
    """Return what makes a native thread in this process; raise NoNativeThreads where there can be none."""
    _refuse_eventlet()
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return of_the_standard_library()
    if monkey.is_module_patched("threading"):
        return _under_gevent(monkey.get_original)
    patched = [
        name for name in ("_thread", "select", "selectors", "socket") if monkey.is_module_patched(name)
    ]
    if patched:
        raise NoNativeThreads(
            f"gevent has patched {', '.join(patched)} but not threading, so the loop thread cannot wait for "
            "its sockets. Call gevent.monkey.patch_all() without thread=False, before everything else"
        )
    return of_the_standard_library()


def _refuse_eventlet() -> None:
    """Refuse what cannot be told apart from green threads: eventlet keeps no originals for us to use.

    On one of its green threads our loop would be the running loop of all the others, and Django's ORM would
    refuse to work in any of them.
    """
    patcher = sys.modules.get("eventlet.patcher")
    patched = (
        () if patcher is None else tuple(sorted(name for name, on in patcher.already_patched.items() if on))
    )
    if patched:
        raise NoNativeThreads(
            f"eventlet has patched {', '.join(patched)}, and the loop thread cannot work on green threads. "
            "Use gevent or threads instead: celery -P gevent or -P threads, gunicorn -k gevent or -k gthread"
        )


def _under_gevent(original: Callable[[str, str], Any]) -> Threads:
    new_lock = original("_thread", "allocate_lock")
    get_ident = original("_thread", "get_ident")
    start_thread = original("_thread", "start_new_thread")
    return Threads(
        make_thread=lambda target, name: _NativeThread(target, name, start_thread, new_lock),
        new_event_loop=lambda: _NativeLoop(original("selectors", "DefaultSelector")(), original),
        new_lock=new_lock,
        new_call_lock=_GreenletLock,
        get_ident=get_ident,
        sleep=original("time", "sleep"),
    )


class _NativeThread:
    """The part of `threading.Thread` that is needed, without any of its patched parts."""

    def __init__(
        self,
        target: Callable[[], None],
        name: str,
        start_thread: Callable[[Callable[[], None], tuple[()]], int],
        new_lock: Callable[[], Lock],
    ) -> None:
        self.name = name
        self.native_id: int | None = None
        self._target = target
        self._start_thread = start_thread
        self._running = new_lock()

    def start(self) -> None:
        self._running.acquire()
        try:
            self._start_thread(self._run, ())
        except RuntimeError:
            self._running.release()
            raise

    def join(self, timeout: float | None = None) -> None:
        if self._running.acquire(timeout=-1 if timeout is None else timeout):
            self._running.release()

    def is_alive(self) -> bool:
        if self._running.acquire(blocking=False):
            self._running.release()
            return False
        return True

    def _run(self) -> None:
        self.native_id = threading.get_native_id()
        try:
            self._target()
        finally:
            self._running.release()


class _NativeLoop(EventLoop):
    """A loop on gevent's originals. Its worker threads are real, one for each function.

    The executors of the standard library would start greenlets here, on a hub that never runs.
    """

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        return self._in_thread(func, *args)


class _Bell:
    """Wakes greenlets of one hub from other threads.

    Each hub has one, which stays: an async watcher is the only thing of a hub that other threads may touch,
    and that only as long as nobody closes it.
    """

    def __init__(self, loop: Any) -> None:
        self._rung_for: deque[Any] = deque()
        self._watcher = loop.async_(ref=False)
        self._watcher.start(self._wake)

    @classmethod
    def of_this_hub(cls) -> _Bell:
        hub = import_module("gevent").get_hub()
        bell = _bells.get(hub)
        if bell is None:
            bell = _bells[hub] = cls(hub.loop)
        return bell

    def ring(self, semaphore: Any) -> None:
        """Release the semaphore of a greenlet; called by any thread."""
        self._rung_for.append(semaphore)
        with contextlib.suppress(ValueError, TypeError):  # the hub is gone, and the greenlet with it
            self._watcher.send()

    def _wake(self) -> None:
        while self._rung_for:
            self._rung_for.popleft().release()


_bells: WeakKeyDictionary[Any, _Bell] = WeakKeyDictionary()


class _GreenletLock:
    """A lock that its call locks: a greenlet waits while its hub goes on, any thread may release it."""

    __slots__ = ("_bell", "_is_new", "_is_released", "_semaphore")

    def __init__(self) -> None:
        self._is_new = True
        self._is_released = False
        self._semaphore: Any = None
        self._bell: _Bell | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002
        if self._is_new:
            self._is_new = False
            return True
        if blocking and not self._is_released:
            self._semaphore = import_module("gevent.lock").Semaphore(0)
            self._bell = _Bell.of_this_hub()
            # Either it is seen here that the lock was released, or release() sees the bell.
            if not self._is_released:
                self._semaphore.acquire(timeout=FOREVER if timeout < 0 else timeout)
        return self._is_released

    def release(self) -> None:
        if self._is_released:
            return
        self._is_released = True
        if self._bell is not None:
            self._bell.ring(self._semaphore)
