"""Calls on their way to an event loop: how each kind of caller waits for what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from faststream_django.loop.threads import Lock

__all__ = ["GRACE", "Call", "CoroutineJob", "Job", "LoopStalled", "LoopStopped", "TaskCall", "ThreadCall"]

# What the caller's thread waits longer than the loop, which has the better knowledge of what happened.
GRACE = 0.1

T = TypeVar("T")


class LoopStopped(Exception):
    """The loop thread is stopped, or the interpreter is shutting down, or there can be none."""


class LoopStalled(Exception):
    """The loop thread did not answer in time: something blocks it, or the work takes longer."""


class Host(Protocol):
    """Where calls are carried out."""

    under_way: set[Call[Any]]

    def post(self, function: Callable[[], None]) -> None:
        """Have a function called on the loop, from any thread; drop it if the loop is closed."""

    def stalled(self) -> None:
        """Note, in any thread, that a caller's time is over."""


class Job(Protocol):
    """What a call is about. Everything is called on the loop thread."""

    def begin(self, call: Call[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Begin, and have the call settled when it is done. Must not raise."""

    def expire(self) -> None:
        """The time is over: settle the call soon, with what is known."""

    def drop(self) -> None:
        """Nobody waits any more."""


class CoroutineJob:
    """An async function, run in a task in the context of the caller. Its time limit is its own affair."""

    __slots__ = ("_args", "_function", "_task")

    def __init__(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._task: asyncio.Task[None] | None = None

    def begin(self, call: Call[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._run(call), context=call.context)

    async def _run(self, call: Call[Any]) -> None:
        try:
            value = await self._function(*self._args)
        except BaseException as error:  # noqa: BLE001 - SystemExit would end the loop for every caller
            call.settle(error)
        else:
            call.settle(None, value)

    def expire(self) -> None:
        """Go on: the function knows its own limit."""

    def drop(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Call(ABC, Generic[T]):
    """One job on its way to the loop, and what came of it."""

    __slots__ = ("_error", "_is_settled", "_job", "_value", "context", "host")

    def __init__(self, job: Job, host: Host) -> None:
        self.host = host
        self.context = contextvars.copy_context()
        self._job = job
        self._is_settled = False
        self._value: T
        self._error: BaseException | None = None

    @abstractmethod
    def _notify(self) -> None:
        """Wake the caller; called on the loop thread."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin on the loop; called on its thread."""
        if not self._is_settled:
            self.host.under_way.add(self)
            self._job.begin(self, loop)

    def settle(self, error: BaseException | None, value: Any = None) -> None:
        """Note the outcome and wake the caller, once.

        Called by one thread: that of the loop, or the one that took the call out of the inbox.
        """
        self.host.under_way.discard(self)
        if self._is_settled:
            return
        if isinstance(error, asyncio.CancelledError):
            error = LoopStopped("the loop thread was stopped while the call was under way")
        self._error = error
        self._value = value
        self._is_settled = True
        self._notify()

    def cancel(self) -> None:
        """Give up, from any thread: the job is dropped, and so is its outcome."""
        if not self._is_settled:
            self._is_settled = True
            self.host.post(self._drop)

    def _drop(self) -> None:
        self.host.under_way.discard(self)
        self._job.drop()

    def _expire(self) -> None:
        if not self._is_settled:
            self._job.expire()

    def _stalled(self, timeout: float | None) -> LoopStalled:
        self.host.stalled()
        return LoopStalled(f"no answer from the loop thread within {timeout} s")

    def _result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value


class ThreadCall(Call[T]):
    """A call whose caller is a thread or a greenlet: it waits for a lock, the cheapest thing to wait for.

    The lock is locked from the start, and released once, by settle(). Whoever acquires it therefore sees
    the outcome, which was written before, and opens it again for whoever waits once more. A signal handler
    that raises in acquire() leaves it either way: nobody needs it then, since the call is cancelled.
    """

    __slots__ = ("_lock",)

    def __init__(self, job: Job, host: Host, lock: Lock) -> None:
        super().__init__(job, host)
        lock.acquire()
        self._lock = lock

    def _notify(self) -> None:
        self._lock.release()

    def wait(self, timeout: float | None, grace: float = 0.0) -> T:
        """Return the result; raise LoopStalled if there is none within `timeout` seconds.

        With `grace` the job is told then, and has so many seconds more to say what it knows.
        """
        if self._is_settled:  # Ctrl-C may have come after an earlier wait() took the lock
            return self._result()
        done = self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0))
        if not done and grace:
            self.host.post(self._expire)
            done = self._lock.acquire(timeout=grace)
        if not done:
            raise self._stalled(timeout)
        self._lock.release()
        return self._result()


class TaskCall(Call[T]):
    """A call whose caller is a task of another event loop, or of this one."""

    __slots__ = ("_done", "_loop")

    def __init__(self, job: Job, host: Host) -> None:
        super().__init__(job, host)
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of the caller is closed
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def wait(self, timeout: float | None, grace: float = 0.0) -> T:
        """See ThreadCall.wait()."""
        done, _ = await asyncio.wait([self._done], timeout=timeout)
        if not done and grace:
            self.host.post(self._expire)
            done, _ = await asyncio.wait([self._done], timeout=grace)
        if not done:
            raise self._stalled(timeout)
        return self._result()
