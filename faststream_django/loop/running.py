"""An event loop, its thread, and the calls that are on their way: what a loop thread is until it ends.

It knows neither Django nor FastStream.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from faststream_django.loop.calls import Call, LoopStopped
from faststream_django.loop.threads import Lock, Threads
from faststream_django.loop.wakeup import Wakeup
from faststream_django.loop.watchdog import Watchdog

__all__ = ["NoLoop", "RunningLoop"]

logger = logging.getLogger("faststream_django")

# How long a fork waits for the loop to come to rest: a callback that runs longer is forked away from.
QUIESCE_TIMEOUT = 5.0
# How long stop() waits for cancelled tasks, and again for the thread, once the closers had their time.
CANCEL_TIMEOUT = 1.0

STOPPED = "the loop thread is stopped"


class NoLoop:
    """Takes the calls for which there is no loop thread, as during exit, and ends each with the reason."""

    def __init__(self, reason: LoopStopped) -> None:
        self.under_way: set[Call[Any]] = set()
        self._reason = reason

    def new_call_lock(self) -> Lock:
        return threading.Lock()

    def submit(self, call: Call[Any]) -> None:
        call.settle(self._reason)

    def post(self, function: Callable[[], None]) -> None:
        """Drop it: there is no loop."""

    def stalled(self) -> None:
        """Say nothing of a thread that is not there."""


class RunningLoop:
    """A loop and its thread: everything that a forked child has to leave alone."""

    def __init__(self, threads: Threads, name: str, ended: Callable[[RunningLoop], None]) -> None:
        self.pid = os.getpid()
        self.threads = threads
        self.loop = threads.new_event_loop()
        # asyncio's debug mode (python -X dev) would log what takes 0.1 s; the watchdog tells what matters.
        self.loop.slow_callback_duration = math.inf
        self.inbox: deque[Call[Any]] = deque()
        self._wakeup = Wakeup(self.loop, self.drain)
        self.under_way: set[Call[Any]] = set()
        self.first_closers: dict[Callable[[], Awaitable[None]], float] = {}
        self.closers: dict[Callable[[], Awaitable[None]], float] = {}
        self.closed = False
        self._left_alone = False
        self.thread_id: int | None = None
        self._turn = 0
        self._turn_woken_in = -1
        self._watchdog = Watchdog(self.loop, lambda: bool(self.under_way))
        self._name = name
        self._ended = ended
        self._gate = threads.new_lock()
        self._pausing = False
        self._parked = True
        """No thread runs the loop, and none is about to."""

    def new_call_lock(self) -> Lock:
        return self.threads.new_call_lock()

    def resume(self) -> None:
        """Run the loop in a thread of its own, at first and after pause().

        If there can be none, as at a limit of processes, tell all who wait, end the loop and raise.
        """
        try:
            with self._gate:
                self._pausing = False
                parked = self._parked
            if parked:
                self.thread = self.threads.make_thread(self._main, self._name)
                self.thread.start()
        except BaseException as error:
            # Whatever raised, also a signal handler: the thread may run the loop by now, or never will.
            with self._gate:
                abandoned = self._parked
                self.closed = self.closed or abandoned
            if abandoned:
                if self._turn:
                    self.leave_alone()  # its tasks cannot be ended without a thread
                self._bury(f"no loop thread can be started: {error}")
            raise

    def _main(self) -> None:
        with self._gate:
            if self.closed:  # by resume(), which was interrupted
                return
            self._parked = False
            self.thread_id = self.threads.get_ident()
        try:
            self._run()
        finally:
            self.thread_id = None
            if not self._parked:
                expected, self.closed = self.closed, True
                self._bury("the loop thread ended while the call was under way")
                self._ended(self)
                if not expected:
                    logger.error("Foreign code ended the loop thread; the next call starts another")

    def _run(self) -> None:
        """Run the loop until it is closed, or parked to be run in another thread."""
        while not self.loop.is_closed():
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # What a callback of a driver or a middleware raises; asyncio lets nothing else out.
                logger.exception("A callback tried to end the loop thread; it goes on")
                continue
            except OSError as error:
                self._break(error)
                return
            with self._gate:
                if self._pausing:
                    self._parked = True
                    return
            if self.closed:
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
                self.loop.close()

    def _break(self, error: OSError) -> None:
        """End a loop whose descriptors foreign code has closed, as daemons do; called in any thread.

        Nothing of it is closed: its numbers may be other files by now. Who waits for it is told by its
        thread, which notices with the next beat of the watchdog at the latest.
        """
        with self._gate:
            known, self.closed = self._left_alone, True
            self.leave_alone()
        if not known:
            logger.error(
                "Foreign code closed the descriptors of the loop thread (%s); the next call starts another",
                error,
            )
        self.refuse()
        self._ended(self)

    def leave_alone(self) -> None:
        """Keep everything as it is until the process ends, whoever lets go of it.

        The __del__ of a selector, a socket or a transport would close, or unregister, what is not ours.
        """
        self._left_alone = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _bury(self, reason: str) -> None:
        """Tell all who wait that nobody will answer them."""
        self.refuse()
        for call in tuple(self.under_way):
            call.settle(LoopStopped(reason))
        if not self._left_alone:
            self.loop.close()
            self._wakeup.close()

    # submit() and drain() share no lock. Each writes first and then reads what the other one writes:
    # submit() puts the call in, then reads the turn; drain() begins a turn, then reads the inbox. Of the two
    # at least one sees the other, so no call is left without a wake; at worst there is a wake too many.
    #
    # A turn counts as woken only once its wake is made, never before: a signal handler may raise between any
    # two steps here (Ctrl-C, a soft time limit), and others would rely on a wake that nobody makes.

    def submit(self, call: Call[Any]) -> None:
        """Have a call started, from any thread."""
        self.inbox.append(call)
        turn = self._turn
        # Equal: somebody has woken the loop after drain() began this turn, so it will begin the next one.
        if self._turn_woken_in != turn:
            if not self._watchdog.is_beating:
                self._watchdog.expect()
            self._wake()
            self._turn_woken_in = turn
        # Closed in between: either this is seen here, or the one who closes finds the call in the inbox.
        if self.closed:
            self._refuse(call)

    def drain(self) -> None:
        """Start what is in the inbox; called on the loop, for every wake."""
        self._turn += 1  # nobody else writes it
        if self.closed:  # what began now would be left unfinished
            self.refuse()
            return
        inbox = self.inbox
        while inbox:
            # Atomic, so that each call is started, or refused, by one thread.
            inbox.popleft().start(self.loop)
        if not self._watchdog.is_beating:
            self._watchdog.begin()

    def refuse(self) -> None:
        """End what came too late to be started."""
        with contextlib.suppress(IndexError):
            while True:
                self.inbox.popleft().settle(LoopStopped(STOPPED))

    def _refuse(self, call: Call[Any]) -> None:
        """End one call in the thread that submits it, unless another thread has taken it out."""
        with contextlib.suppress(ValueError):
            self.inbox.remove(call)  # atomic too
            call.settle(LoopStopped(STOPPED))

    def _wake(self) -> None:
        try:
            self._wakeup.wake()
        except (RuntimeError, ValueError):  # closed, as the caller sees in its own way
            return
        except OSError as error:
            self._break(error)

    def post(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # closed
            self.loop.call_soon_threadsafe(function, context=contextvars.Context())

    def stalled(self) -> None:
        self._wake()  # whatever the reason: the next call is not to wait in vain too
        self._watchdog.report(self.thread_id)

    def pause(self) -> None:
        """Bring the loop to rest before a fork: no lock is held, no warning is due, nothing is half done."""
        self._pausing = True
        self.post(self.loop.stop)
        self.thread.join(QUIESCE_TIMEOUT)
        self._wait_for_os_thread()

    def _wait_for_os_thread(self) -> None:
        """Wait until the kernel has let the joined thread go.

        Not all join() do, and os.fork() would count and report the thread.
        """
        entry = Path(f"/proc/self/task/{self.thread.native_id}")
        deadline = time.monotonic() + 0.1
        while not self.thread.is_alive() and entry.exists() and time.monotonic() < deadline:
            self.threads.sleep(0.0001)

    async def shut_down(self) -> None:
        """Let the closers finish what is in flight, then cancel whatever is left."""
        for closers in (self.first_closers, self.closers):
            await asyncio.gather(*(closer() for closer in closers), return_exceptions=True)
        self.closed = True
        deadline = self.loop.time() + CANCEL_TIMEOUT
        # Again and again: drivers begin tasks when others of theirs are cancelled.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=max(0.0, deadline - self.loop.time()))
            if self.loop.time() >= deadline:
                return

    @property
    def shut_down_timeout(self) -> float:
        """The seconds that shut_down() may take."""
        longest = (max(closers.values(), default=0.0) for closers in (self.first_closers, self.closers))
        return sum(longest, CANCEL_TIMEOUT)

    def end(self) -> None:
        """Stop the loop within a bound; a loop that is blocked is left to its daemon thread."""
        self.closed = True
        self.post(self.loop.stop)
        self.thread.join(CANCEL_TIMEOUT)
        if self.thread.is_alive():
            logger.warning("The loop thread is blocked and was left behind")
        self.refuse()
