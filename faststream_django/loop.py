"""One event loop on a thread of its own, for callers that have none.

The only module that knows threads and forks, and the only place that decides what happens at exit.
It knows neither Django nor FastStream.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import ctypes
import logging
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Generic, TypeVar, TypeVarTuple

__all__ = ["LoopStalled", "LoopStopped", "LoopThread", "TaskCall", "ThreadCall", "loop_thread"]

logger = logging.getLogger("faststream_django")

# How long a fork waits for the loop to come to rest: a callback that runs longer is forked away from.
QUIESCE_TIMEOUT = 5.0
# How long stop() waits for cancelled tasks, and again for the thread, once the closers had their time.
CANCEL_TIMEOUT = 1.0

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class LoopStopped(Exception):
    """The loop thread is stopped, or the interpreter is shutting down."""


class LoopStalled(Exception):
    """The loop thread did not answer in time: something blocks it, or the work takes longer."""


class Call(ABC, Generic[T]):
    """One async function on its way to the loop, and what came of it."""

    __slots__ = ("_args", "_context", "_error", "_function", "_settled", "_task", "_value")

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
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._work(), context=self._context)

    async def _work(self) -> None:
        try:
            self._value = await self._function(*self._args)
        except BaseException as error:  # noqa: BLE001 - SystemExit would end the loop for every caller
            self.settle(error)
        else:
            self.settle(None)

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
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def _result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value


class ThreadCall(Call[T]):
    """A call whose caller is a thread: it waits on a plain lock, the cheapest thing to wait for."""

    __slots__ = ("_lock",)

    def __init__(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        super().__init__(function, args)
        self._lock = threading.Lock()
        self._lock.acquire()

    def _notify(self) -> None:
        self._lock.release()

    def wait(self, timeout: float | None) -> T:
        """Return the result; raise LoopStalled if there is none within `timeout` seconds."""
        if not self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            raise _stalled(timeout)
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
            raise _stalled(timeout)
        return self._result()


def _stalled(timeout: float | None) -> LoopStalled:
    return LoopStalled(f"no answer from the loop thread within {timeout} s")


class _Running:
    """A loop and its thread: everything that a forked child has to leave alone."""

    def __init__(self, name: str) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.inbox: deque[Call[Any]] = deque()
        self.waking = False
        self.closers: dict[Callable[[], Awaitable[None]], float] = {}
        self.closed = False
        self._name = name
        self._gate = threading.Lock()
        self._pausing = False
        self._parked = False
        self.start_thread()

    def start_thread(self) -> None:
        # A daemon: the interpreter joins other threads before atexit, so the loop would hang the exit.
        self.thread = threading.Thread(target=self._main, name=self._name, daemon=True)
        self.thread.start()

    def _main(self) -> None:
        while not self.loop.is_closed():
            try:
                self.loop.run_forever()
            except BaseException:
                # A callback of a driver or a middleware raised SystemExit or KeyboardInterrupt.
                logger.exception("A callback tried to end the loop thread; it goes on")
                continue
            with self._gate:
                if self._pausing:
                    self._parked = True
                    return
            if self.closed:
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
                self.loop.close()
                return

    def submit(self, call: Call[Any]) -> None:
        self.inbox.append(call)
        # One wake for many callers. The order matters: drain() lowers the flag before it looks.
        if not self.waking:
            self.waking = True
            with contextlib.suppress(RuntimeError):  # closed: seen by the check below
                self.loop.call_soon_threadsafe(self.drain)
        if self.closed:
            self.refuse()

    def drain(self) -> None:
        self.waking = False
        inbox = self.inbox
        if self.closed:  # what began now would be left unfinished
            self.refuse()
            return
        while inbox:
            inbox.popleft().start()

    def refuse(self) -> None:
        """End what came too late to be started."""
        with contextlib.suppress(IndexError):
            while True:
                self.inbox.popleft().settle(LoopStopped("the loop thread is stopped"))

    def pause(self) -> None:
        """Bring the loop to rest before a fork: no lock is held, no warning is due, nothing is half done."""
        self._pausing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(QUIESCE_TIMEOUT)
        _wait_for_os_thread(self.thread)

    def resume(self) -> None:
        with self._gate:
            self._pausing = False
            parked, self._parked = self._parked, False
        if parked:
            self.start_thread()

    async def shut_down(self) -> None:
        """Let the closers finish what is in flight, then cancel whatever is left."""
        await asyncio.gather(*(closer() for closer in self.closers), return_exceptions=True)
        self.closed = True
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)

    def end(self) -> None:
        """Stop the loop within a bound; a loop that is blocked is left to its daemon thread."""
        self.closed = True
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(CANCEL_TIMEOUT)
        if self.thread.is_alive():
            logger.warning("The loop thread is blocked and was left behind")
        self.refuse()


class LoopThread:
    """Runs async functions for threads and for other event loops.

    Starts with the first call. Survives a fork: the parent goes on, the child starts its own with its
    next call and never touches what it inherited. Stops at exit, within a bound.
    """

    def __init__(self, name: str = "faststream_django") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._hooked = False
        self._exiting = False

    @property
    def is_started(self) -> bool:
        return self._running is not None

    def is_current(self) -> bool:
        """Tell whether the caller is on the loop thread, where waiting for the loop would never end."""
        running = self._running
        return running is not None and running.thread is threading.current_thread()

    def start(self) -> None:
        """Start the thread if it does not run in this process; raise LoopStopped during exit."""
        self._ensure()

    def submit(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> ThreadCall[T]:
        """Hand an async function over and return at once; during exit the call ends with LoopStopped."""
        call = ThreadCall(function, args)
        self._hand_over(call)
        return call

    def asubmit(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> TaskCall[T]:
        """See submit(); for a caller in an event loop, also in this one."""
        call = TaskCall(function, args)
        self._hand_over(call)
        return call

    def run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts, timeout: float | None) -> T:
        """Run an async function and wait for its result, at most `timeout` seconds.

        Raise RuntimeError on the loop thread, LoopStalled when the time passes (the work is cancelled),
        LoopStopped when the loop ends first. On Ctrl-C the work is cancelled too.
        """
        self.refuse_itself()
        call = self.submit(function, *args)
        try:
            return call.wait(timeout)
        except BaseException:
            call.cancel()
            raise

    async def arun(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts, timeout: float | None) -> T:
        """See run(); for a caller in an event loop, also in this one."""
        call = self.asubmit(function, *args)
        try:
            return await call.wait(timeout)
        except BaseException:
            call.cancel()
            raise

    def refuse_itself(self) -> None:
        """Raise RuntimeError on the loop thread, where waiting for the loop would never end."""
        if self.is_current():
            raise RuntimeError(
                "This is the loop thread: waiting for it here would never end. Await the async form."
            )

    def add_closer(self, closer: Callable[[], Awaitable[None]], timeout: float) -> None:
        """Have `closer` awaited, for `timeout` seconds at most, before the loop stops.

        Called on the loop thread.
        What the closer refers to lives as long as the loop, also in a forked child, where nothing of
        it is closed or freed.
        """
        running = self._running
        if running is not None:
            running.closers[closer] = timeout

    def remove_closer(self, closer: Callable[[], Awaitable[None]]) -> None:
        running = self._running
        if running is not None:
            running.closers.pop(closer, None)

    def stop(self) -> None:
        """Await the closers for the longest of their times, cancel the rest, end the thread.

        The next call starts a new one. Does nothing where no thread was started, as in a forked child.
        """
        if self.is_current():
            raise RuntimeError("The loop thread cannot stop itself.")
        with self._lock:
            running, self._running = self._running, None
        if running is None or running.pid != os.getpid():
            return
        call = ThreadCall(running.shut_down, ())
        running.submit(call)
        timeout = max(running.closers.values(), default=0.0) + CANCEL_TIMEOUT
        try:
            call.wait(timeout)
        except LoopStalled:
            logger.warning("The loop thread did not finish its work within %g s", timeout)
        running.end()

    def _hand_over(self, call: Call[Any]) -> None:
        try:
            running = self._ensure()
        except LoopStopped as error:
            call.settle(error)
        else:
            running.submit(call)

    def _ensure(self) -> _Running:
        running = self._running
        if running is not None and running.pid == os.getpid() and not sys.is_finalizing():
            return running
        with self._lock:
            if self._running is not None and self._running.pid != os.getpid():
                # A fork without Python's hooks, as uWSGI's own.
                self._abandon()
            if self._exiting or sys.is_finalizing():
                raise LoopStopped("the interpreter is shutting down")
            if self._running is None:
                self._hook()
                self._running = _Running(self._name)
            return self._running

    def _hook(self) -> None:
        if not self._hooked:
            self._hooked = True
            atexit.register(self._at_exit)
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )

    def _at_exit(self) -> None:
        self._exiting = True
        self.stop()

    def _before_fork(self) -> None:
        self._lock.acquire()  # held over the fork: one fork at a time, and never during a start
        if self._running is not None and not self.is_current():
            self._running.pause()

    def _after_fork_in_parent(self) -> None:
        if self._running is not None:
            self._running.resume()
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._abandon()

    def _abandon(self) -> None:
        """Leave to the parent what is the parent's: never close it, never free it.

        The selector is shared with the parent. Its __del__ at the exit of the child would unregister the
        parent's sockets, so the child keeps a reference that nobody can drop.
        """
        if self._running is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._running))
            self._running = None


def _wait_for_os_thread(thread: threading.Thread) -> None:
    """Wait until the kernel has let the joined thread go.

    Before Python 3.13 join() returns a moment earlier, and os.fork() would count and report the thread.
    """
    entry = Path(f"/proc/self/task/{thread.native_id}")
    deadline = time.monotonic() + 0.1
    while not thread.is_alive() and entry.exists() and time.monotonic() < deadline:
        time.sleep(0.0001)


loop_thread = LoopThread()
