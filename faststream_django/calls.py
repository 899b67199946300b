"""Calls on their way to an event loop: how each kind of caller waits for what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from faststream_django.native_threads import Lock

__all__ = ["Call", "LoopStalled", "LoopStopped", "TaskCall", "ThreadCall"]

T = TypeVar("T")


class LoopStopped(Exception):
    """The loop thread is stopped, or the interpreter is shutting down, or there can be none."""


class LoopStalled(Exception):
    """The loop thread did not answer in time: something blocks it, or the work takes longer."""


class Host(Protocol):
    """Where calls are carried out."""

    loop: asyncio.AbstractEventLoop
    under_way: set[Call[Any]]

    def stalled(self) -> None:
        """Note, in any thread, that a caller's time is over."""


class Call(ABC, Generic[T]):
    """One async function on its way to the loop, and what came of it."""

    __slots__ = ("_args", "_context", "_error", "_function", "_settled", "_task", "_value", "host")

    host: Host
    """Set by the host when it takes the call."""

    def __init__(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None
        self._settled = False
        self._value: T
        self._error: BaseException | None = None

    @abstractmethod
    def _notify(self) -> None:
        """Wake the caller; called on the loop thread."""

    def start(self) -> None:
        """Begin on the loop, in the context of the caller."""
        if not self._settled:
            self.host.under_way.add(self)
            self._task = self.host.loop.create_task(self._work(), context=self._context)

    async def _work(self) -> None:
        try:
            self._value = await self._function(*self._args)
        except BaseException as error:  # noqa: BLE001 - SystemExit would end the loop for every caller
            self.settle(error)
        else:
            self.settle(None)
        self.host.under_way.discard(self)

    def settle(self, error: BaseException | None) -> None:
        if self._settled:
            return
        if isinstance(error, asyncio.CancelledError):
            error = LoopStopped("the loop thread was stopped while the call was under way")
        self._error = error
        self._settled = True
        self._notify()

    def cancel(self) -> None:
        """Give up, from any thread: the work is cancelled and its outcome dropped."""
        self._settled = True
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: so is the task
                self.host.loop.call_soon_threadsafe(self._drop, self._task)

    def _drop(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self.host.under_way.discard(self)  # a task that has not begun will not

    def _stalled(self, timeout: float | None) -> LoopStalled:
        self.host.stalled()
        return LoopStalled(f"no answer from the loop thread within {timeout} s")

    def _result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value


class ThreadCall(Call[T]):
    """A call whose caller is a thread or a greenlet: it waits for a lock, the cheapest thing to wait for."""

    __slots__ = ("_lock",)

    def __init__(
        self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...], locked_lock: Lock
    ) -> None:
        super().__init__(function, args)
        self._lock = locked_lock

    def _notify(self) -> None:
        self._lock.release()

    def wait(self, timeout: float | None) -> T:
        """Return the result; raise LoopStalled if there is none within `timeout` seconds."""
        if not self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            raise self._stalled(timeout)
        self._lock.release()
        return self._result()


class TaskCall(Call[T]):
    """A call whose caller is a task of another event loop, or of this one."""

    __slots__ = ("_done", "_loop")

    def __init__(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        super().__init__(function, args)
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of the caller is closed
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def wait(self, timeout: float | None) -> T:
        """See ThreadCall.wait()."""
        done, _ = await asyncio.wait([self._done], timeout=timeout)
        if not done:
            raise self._stalled(timeout)
        return self._result()
