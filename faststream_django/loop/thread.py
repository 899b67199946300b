"""One event loop on a thread of its own, for callers that have none.

The only module that knows threads and forks, and the only place that decides what happens at exit.
It knows neither Django nor FastStream.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple

from faststream_django.loop.calls import CoroutineJob, Job, LoopStalled, LoopStopped, TaskCall, ThreadCall
from faststream_django.loop.gevent import native_threads
from faststream_django.loop.running import NoLoop, RunningLoop
from faststream_django.loop.threads import NoNativeThreads, Threads

__all__ = ["LoopThread", "loop_thread"]

logger = logging.getLogger("faststream_django")

GONE = (
    "The loop thread cannot go on after a fork (%s): its connections are given up, the next call makes others"
)

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class LoopThread:
    """Runs async functions for threads and for other event loops.

    Starts with the first call. Survives a fork: the parent goes on, the child starts its own with its
    next call and never touches what it inherited. Stops at exit, within a bound.
    """

    def __init__(self, name: str = "faststream_django") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._running: RunningLoop | None = None
        # One that stop() has taken: what its closers wait for may still call it, on its own thread.
        self._stopping: RunningLoop | None = None
        self._hooked = False
        self._exiting = False

    @property
    def is_started(self) -> bool:
        return self._running is not None

    def is_current(self) -> bool:
        """Tell whether the caller is on the loop thread, where waiting for the loop would never end."""
        running = self._running
        if running is not None:
            return running.thread_id == running.threads.get_ident()
        return self._stopping_here() is not None

    def start(self) -> None:
        """Start the thread if it does not run in this process; raise LoopStopped during exit."""
        self._ensure()

    def submit(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> ThreadCall[T]:
        """Hand an async function over and return at once.

        Where there is no loop thread, as during exit, the call ends with LoopStopped.
        """
        host = self._host()
        call: ThreadCall[T] = ThreadCall(CoroutineJob(function, args), host, host.new_call_lock())
        host.submit(call)
        return call

    def asubmit(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> TaskCall[T]:
        """See submit(); for a caller in an event loop, also in this one."""
        host = self._host()
        call: TaskCall[T] = TaskCall(CoroutineJob(function, args), host)
        host.submit(call)
        return call

    def run_job(self, job: Job, timeout: float | None, grace: float = 0.0) -> Any:
        """Hand a job over and wait for what comes of it; see run() and ThreadCall.wait()."""
        host = self._host()
        call: ThreadCall[Any] = ThreadCall(job, host, host.new_call_lock())
        # One block for both: a signal handler may also raise when submit() has put the call in and has not
        # returned yet, and then nobody else could cancel it.
        try:
            host.submit(call)
            return call.wait(timeout, grace)
        except BaseException:
            call.cancel()
            raise

    async def arun_job(self, job: Job, timeout: float | None, grace: float = 0.0) -> Any:
        """See run_job(); for a caller in an event loop, also in this one."""
        host = self._host()
        call: TaskCall[Any] = TaskCall(job, host)
        try:
            host.submit(call)
            return await call.wait(timeout, grace)
        except BaseException:
            call.cancel()
            raise

    def run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts, timeout: float | None) -> T:
        """Run an async function and wait for its result, at most `timeout` seconds.

        Raise RuntimeError on the loop thread, LoopStalled when the time passes (the work is cancelled),
        LoopStopped when the loop ends first. On Ctrl-C the work is cancelled too.
        """
        self.refuse_itself()
        result: T = self.run_job(CoroutineJob(function, args), timeout)
        return result

    def refuse_itself(self) -> None:
        """Raise RuntimeError on the loop thread, where waiting for the loop would never end."""
        if self.is_current():
            raise RuntimeError(
                "This is the loop thread: waiting for it here would never end. Await the async form."
            )

    def add_closer(
        self, closer: Callable[[], Awaitable[None]], timeout: float, *, first: bool = False
    ) -> None:
        """Have `closer` awaited, for `timeout` seconds at most, before the loop stops.

        Called on the loop thread. Those that are `first` have ended before the others begin.
        What the closer refers to lives as long as the loop, also in a forked child, where nothing of
        it is closed or freed.
        """
        running = self._running
        if running is not None:
            closers = running.first_closers if first else running.closers
            closers[closer] = timeout

    def remove_closer(self, closer: Callable[[], Awaitable[None]]) -> None:
        running = self._running
        if running is not None:
            running.closers.pop(closer, None)
            running.first_closers.pop(closer, None)

    def stop(self) -> None:
        """Await the closers within their times, cancel the rest, end the thread.

        The next call starts a new one. Does nothing where no thread was started, as in a forked child.
        """
        if self.is_current():
            raise RuntimeError("The loop thread cannot stop itself.")
        with self._lock:
            running, self._running = self._running, None
            if running is None or running.pid != os.getpid():
                return
            self._stopping = running
        try:
            self._shut_down(running)
        finally:
            self._stopping = None

    def _shut_down(self, running: RunningLoop) -> None:
        call: ThreadCall[None] = ThreadCall(
            CoroutineJob(running.shut_down, ()), running, running.new_call_lock()
        )
        running.submit(call)
        timeout = running.shut_down_timeout
        try:
            call.wait(timeout)
        except LoopStalled:
            logger.warning("The loop thread did not finish its work within %g s", timeout)
        except LoopStopped:  # it has ended by itself meanwhile
            return
        running.end()

    def _host(self) -> RunningLoop | NoLoop:
        try:
            return self._ensure()
        except LoopStopped as error:
            return NoLoop(error)

    def _ensure(self) -> RunningLoop:
        running = self._running
        if running is not None and running.pid == os.getpid() and not sys.is_finalizing():
            return running
        stopping = self._stopping_here()
        if stopping is not None:
            return stopping
        with self._lock:
            if self._running is not None and self._running.pid != os.getpid():
                # A fork without Python's hooks, as uWSGI's own.
                self._abandon()
            if self._exiting or sys.is_finalizing():
                raise LoopStopped("the interpreter is shutting down")
            if self._running is not None:
                return self._running
            try:
                threads = native_threads()
            except NoNativeThreads as error:
                raise LoopStopped(str(error)) from None
            self._hook()
            try:
                # Its watchers and its thread must not keep the context variables of the first caller.
                return contextvars.Context().run(self._start, threads)
            except RuntimeError as error:  # Python 3.12 has no new thread in a function of atexit
                raise LoopStopped(f"no loop thread can be started: {error}") from None

    def _stopping_here(self) -> RunningLoop | None:
        """Return the loop that stops, on its own thread."""
        stopping = self._stopping
        if stopping is None or stopping.pid != os.getpid():
            return None
        return stopping if stopping.thread_id == stopping.threads.get_ident() else None

    def _start(self, threads: Threads) -> RunningLoop:
        running = self._running = RunningLoop(threads, self._name, self._forget)
        self._resume(running)
        return running

    def _resume(self, running: RunningLoop) -> None:
        """Have the loop run in a thread; forget it where that fails. Called under the lock."""
        try:
            running.resume()
        finally:
            if running.closed:
                self._running = None

    def _forget(self, running: RunningLoop) -> None:
        with self._lock:
            if self._running is running:
                self._running = None

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
        running = self._running
        try:
            if running is not None:
                self._resume(running)
        except RuntimeError as error:  # the child may have taken the last process that the limit allows
            logger.error(GONE, error)  # noqa: TRY400 - the traceback would tell about this file alone
        finally:
            self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._abandon()

    def _abandon(self) -> None:
        """Leave to the parent what is the parent's: never close it, never free it.

        The selector is shared with the parent, and its __del__ would unregister the parent's sockets.
        """
        self._stopping = None  # a thread that the child does not have was about to end it
        if self._running is not None:
            self._running.leave_alone()
            self._running = None


loop_thread = LoopThread()
