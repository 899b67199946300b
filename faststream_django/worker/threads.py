"""The threads that run what users wrote as ``def``: handlers, and what they depend on."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, TypeVarTuple, cast

from faststream_django.worker.database import clean_up, close_all, watch_connections
from faststream_django.worker.errands import Errand, errands
from faststream_django.worker.orm_thread import ORMThread

__all__ = ["LINGER", "HandlerThreads", "Interrupted"]

LINGER = 1.0
"""Seconds that a connection of ``CONN_MAX_AGE = 0`` stays open after a message, for the next one.

Threads take turns: as long as each gets a message within this time, none of them connects anew.
"""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Interrupted(Exception):
    """A function in a thread raised what would end a process, such as KeyboardInterrupt."""


class _Call:
    """A function that a task calls in a thread."""

    __slots__ = ("args", "context", "errand", "function", "future", "is_abandoned")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], future: asyncio.Future[Any]
    ) -> None:
        self.function = function
        self.args = args
        self.context = contextvars.copy_context()
        self.future = future
        self.errand: Errand | None = None
        self.is_abandoned = False
        """Nobody waits any more."""

    def abandon(self) -> None:
        self.is_abandoned = True
        if self.errand is not None:
            self.errand.refuse()


class HandlerThreads:
    """At most `size` threads, started when they are needed, for the tasks of one event loop.

    Each keeps Django's database connections as a thread of a server does: after a function those are
    closed that are broken or older than CONN_MAX_AGE, and those that grow too old meanwhile. A thread
    that has another message to handle within `linger` seconds keeps a connection of ``CONN_MAX_AGE = 0``.
    """

    def __init__(self, size: int, *, linger: float = LINGER) -> None:
        watch_connections()
        self.size = size
        self.orm_thread = ORMThread()
        """One thread more, for the ORM of coroutines."""
        self._run_errands = self.orm_thread.around(_run_errands)
        self._linger = linger
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._reports: deque[tuple[_Call, Any, BaseException | None]] = deque()
        self._is_woken = False
        self._begun: set[_Call] = set()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unfinished = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_stopped = False

    @property
    def running(self) -> int:
        """How many functions have begun and not ended."""
        return len(self._begun)

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function in a thread, with the context variables of the caller; return what it returns.

        Raise what it raises; but Interrupted instead of KeyboardInterrupt and other things that are no
        Exception, save SystemExit. If the caller is cancelled, a function that has not begun never does;
        one that has keeps its thread until it ends.
        """
        call = self._submit(function, args)
        try:
            answer = await call.future
            if call.errand is not None:
                answer = await self._run_errands(call)
        except BaseException:
            call.abandon()
            raise
        return cast("T", answer)

    async def idle(self, timeout: float) -> bool:
        """Wait until all functions have ended; return False if they have not after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """Let each thread end, with its connections, once it has nothing left to do.

        A function that is called later has a thread of its own.
        """
        self._is_stopped = True
        for _ in self._threads:
            self._calls.put(None)
        self._threads.clear()
        self.orm_thread.stop()

    def _submit(self, function: Callable[..., Any], args: tuple[Any, ...]) -> _Call:
        loop = asyncio.get_running_loop()
        if (self._loop or loop) is not loop:
            raise RuntimeError("These threads belong to another event loop.")
        self._loop = loop
        if self._unfinished >= len(self._threads) < self.size:
            self._start_thread()
        self._unfinished += 1
        self._is_idle.clear()
        call = _Call(function, args, loop.create_future())
        self._calls.put(call)
        if self._is_stopped:
            self.stop()
        return call

    def _start_thread(self) -> None:
        name = f"faststream_django-handler-{len(self._threads) + 1}"
        # A daemon: a handler that does not end must not keep the process from its end.
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _finish(self) -> None:
        self._unfinished -= 1
        if not self._unfinished:
            self._is_idle.set()

    def _drain(self) -> None:
        """Answer the tasks.

        We lower the flag, then read the reports; a thread adds its report, then reads the flag. So no
        report is left without a wake; at worst there are two.
        """
        self._is_woken = False
        while self._reports:
            call, answer, error = self._reports.popleft()
            if isinstance(answer, Errand):
                if call.is_abandoned:
                    answer.refuse()
                    continue
                call.errand, answer = answer, None
            else:
                self._finish()
            if call.is_abandoned or call.future.done():  # it is done if it has been cancelled
                continue
            if error is None:
                call.future.set_result(answer)
            else:
                call.future.set_exception(error)

    # In a thread from here on.

    def _work(self) -> None:
        call: _Call | None = None
        errands.send = lambda errand: self._report(cast("_Call", call), errand, None)
        due: float | None = None  # when a connection that is open has to be closed
        while True:
            try:
                call = self._calls.get(timeout=None if due is None else max(due - time.monotonic(), 0.0))
            except Empty:
                due = clean_up().due
                continue
            if call is None:
                break
            if due is not None and time.monotonic() >= due:
                clean_up()
            self._begun.add(call)
            answer, error = None, None
            if not call.future.cancelled():
                answer, error = _outcome(call.context, call.function, call.args)
            cleaned = clean_up(self._linger, is_suspicious=error is not None)
            due, error = cleaned.due, error or cleaned.error
            self._begun.discard(call)
            self._report(call, answer, error)
            # Whoever waits for the next call must not keep the message of the last one.
            del call, answer, error, cleaned
        close_all()

    def _report(self, call: _Call, answer: Any, error: BaseException | None) -> None:
        self._reports.append((call, answer, error))
        if not self._is_woken:
            self._is_woken = True
            try:
                call.future.get_loop().call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return


async def _run_errands(call: _Call) -> Any:
    """Run what the function asks for until it ends; return what it returns."""
    answer = None
    while call.errand is not None:
        errand, call.errand = call.errand, None
        call.future = asyncio.get_running_loop().create_future()
        await errand.run()
        answer = await call.future
    return answer


def _outcome(
    context: contextvars.Context, function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    """Call the function; whatever it raises must not end the thread, nor seem to cancel the task."""
    try:
        return context.run(function, *args), None
    except StopIteration as error:  # no future can have it
        return None, _from(error, Interrupted("the handler raised StopIteration"))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # it is raised in the task
        return None, error
    except BaseException as error:  # noqa: BLE001
        return None, _from(error, Interrupted(f"the handler raised {type(error).__name__}"))


def _from(cause: BaseException, error: Exception) -> Exception:
    error.__cause__ = cause
    return error
