import asyncio
import contextvars
import itertools
import logging
import os
import re
import signal
import socket
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faststream_django.loop import LoopStalled, LoopStopped, LoopThread, calls, wakeup, watchdog
from faststream_django.loop import running as running_loop
from faststream_django.loop import thread as loop_module


async def arun(thread, function, *args, timeout):
    """Wait in an event loop for what the loop thread does."""
    return await thread.arun_job(loop_module.Work(function, args), timeout)


SOON = 5.0  # seconds; what is done "at once", on a busy machine
LONG = 30.0  # nothing here may take as long: a call that waits for its timeout has failed

caller = contextvars.ContextVar("caller")


@pytest.fixture
def thread():
    thread = LoopThread("tests")
    yield thread
    thread.stop()


@pytest.fixture
def blocked(thread):
    """Block the loop of `thread` with a callback until the event is set."""
    release, entered = threading.Event(), threading.Event()
    post(thread, lambda: (entered.set(), release.wait(LONG)))
    assert entered.wait(SOON)
    behind = thread._running.thread
    yield release
    release.set()
    thread.stop()
    behind.join(SOON)


@pytest.fixture(autouse=True)
def _short_cancel_timeout(monkeypatch):
    monkeypatch.setattr(running_loop, "CANCEL_TIMEOUT", 0.3)


class Work:
    """A coroutine that waits until it is cancelled, and the events that tell about it."""

    def __init__(self):
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self):
        self.begun.set()
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def assert_clean(done, *lines):
    """Assert that a program ended well, printed these lines and complained about nothing."""
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, list(lines), "")


def new_lock():
    lock = threading.Lock()
    lock.acquire()
    return lock


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


async def identify():
    return threading.get_ident()


def post(thread, callback):
    """Have a bare callback run on the loop, as drivers do."""

    async def schedule():
        asyncio.get_running_loop().call_soon(callback)

    thread.run(schedule, timeout=SOON)


# Calls


def test_run_returns_the_result(thread):
    assert thread.run(double, 21, timeout=SOON) == 42


def test_run_raises_what_the_function_raises(thread):
    error = ValueError("mine")

    async def fail():
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        thread.run(fail, timeout=SOON)

    assert caught.value is error


def test_submit_returns_before_the_work_is_done(thread):
    go_on = threading.Event()

    async def work():
        await asyncio.to_thread(go_on.wait, SOON)
        return "done"

    call = thread.submit(work)
    go_on.set()

    assert call.wait(SOON) == "done"


def test_nothing_starts_before_the_first_call():
    thread = LoopThread("idle")

    assert not thread.is_started
    assert not thread.is_current()
    assert "idle" not in {each.name for each in threading.enumerate()}


def test_the_first_callers_share_one_thread(thread):
    barrier = threading.Barrier(16)

    def first(_):
        barrier.wait(SOON)
        return thread.run(identify, timeout=SOON)

    with ThreadPoolExecutor(16) as pool:
        threads = set(pool.map(first, range(16)))

    assert len(threads) == 1


def test_the_loop_thread_is_a_daemon(thread):
    """The interpreter joins other threads before it runs the exit handler that would stop the loop."""
    thread.start()

    assert [each.daemon for each in threading.enumerate() if each.name == "tests"] == [True]


def test_many_threads_get_their_own_results(thread):
    def work(offset):
        numbers = range(offset, offset + 200)
        return [thread.run(double, number, timeout=LONG) for number in numbers] == [2 * n for n in numbers]

    with ThreadPoolExecutor(32) as pool:
        results = list(pool.map(work, range(0, 32_000, 1000)))

    assert results == [True] * 32


def test_calls_begin_in_the_order_in_which_they_were_handed_over(thread, blocked):
    order = []

    async def note(number):
        order.append(number)

    calls = [thread.submit(note, number) for number in range(1000)]
    blocked.set()
    for call in calls:
        call.wait(SOON)

    assert order == list(range(1000))


def test_many_calls_wake_a_busy_loop_once(thread, blocked, monkeypatch):
    """A wake is a system call and a turn of the loop: it is most of what a hop costs."""
    wakes = []
    counter = thread._running._wakeup
    wake = counter.wake
    monkeypatch.setattr(counter, "wake", lambda: (wakes.append(1), wake()))

    submitted = [thread.submit(double, number) for number in range(100)]
    blocked.set()
    results = [call.wait(SOON) for call in submitted]

    assert results == [2 * number for number in range(100)]
    assert len(wakes) == 1


def test_the_coroutine_sees_the_contextvars_of_the_caller(thread):
    async def read_and_write():
        value = caller.get()
        caller.set("the coroutine")
        return value

    caller.set("this test")

    assert thread.run(read_and_write, timeout=SOON) == "this test"
    assert caller.get() == "this test"


def test_callers_that_share_a_wake_keep_their_own_contextvars(thread, blocked):
    async def read():
        return caller.get()

    calls = [contextvars.Context().run(lambda n=n: (caller.set(n), thread.submit(read))[1]) for n in range(3)]
    blocked.set()

    assert [call.wait(SOON) for call in calls] == [0, 1, 2]


def test_arun_from_another_loop(thread):
    async def main():
        caller.set("another loop")
        here = threading.get_ident()
        there = await arun(thread, identify, timeout=SOON)
        return here != there, await arun(thread, double, 21, timeout=SOON)

    assert asyncio.run(main()) == (True, 42)


def test_arun_from_the_same_loop(thread):
    async def nested():
        return await arun(thread, double, 21, timeout=SOON)

    assert thread.run(nested, timeout=SOON) == 42


def test_arun_sees_the_contextvars_of_the_task(thread):
    async def read():
        return caller.get()

    async def main():
        caller.set("the task")
        return await arun(thread, read, timeout=SOON)

    assert asyncio.run(main()) == "the task"


def test_arun_raises_what_the_function_raises(thread):
    async def fail():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(arun(thread, fail, timeout=SOON))


def test_cancelling_arun_cancels_the_work(thread):
    work = Work()

    async def main():
        task = asyncio.create_task(arun(thread, work, timeout=LONG))
        await asyncio.to_thread(work.begun.wait, SOON)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert work.cancelled.wait(SOON)


def test_an_arun_whose_loop_was_closed_harms_nobody(thread):
    work = Work()
    loop = asyncio.new_event_loop()

    async def leave():
        call = thread.asubmit(work)
        await asyncio.to_thread(work.begun.wait, SOON)
        return call

    call = loop.run_until_complete(leave())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    call._job._task.get_loop().call_soon_threadsafe(call._job.drop)

    assert work.cancelled.wait(SOON)
    assert thread.run(double, 21, timeout=SOON) == 42


def test_loop_is_woken_without_eventfd_too(monkeypatch):
    """Only Linux has it."""
    monkeypatch.delattr(os, "eventfd")
    thread = LoopThread("tests")

    assert thread.run(double, 21, timeout=SOON) == 42
    thread.stop()


# Misuse


def test_run_on_the_loop_thread_is_refused_at_once(thread):
    async def misuse():
        began = time.monotonic()
        with pytest.raises(RuntimeError, match="This is the loop thread"):
            thread.run(double, 21, timeout=LONG)
        return time.monotonic() - began

    assert thread.run(misuse, timeout=LONG) < SOON


def test_run_in_a_bare_callback_of_the_loop_is_refused(thread):
    errors = []
    done = threading.Event()

    def callback():
        try:
            thread.run(double, 21, timeout=LONG)
        except RuntimeError as error:
            errors.append(str(error))
        done.set()

    post(thread, callback)

    assert done.wait(SOON)
    assert "This is the loop thread" in errors[0]


def test_stop_on_the_loop_thread_is_refused(thread):
    async def misuse():
        thread.stop()

    with pytest.raises(RuntimeError, match="cannot stop itself"):
        thread.run(misuse, timeout=SOON)

    assert thread.run(double, 21, timeout=SOON) == 42


def test_run_in_a_worker_thread_of_the_loop_is_fine(thread):
    async def outer():
        return await asyncio.to_thread(thread.run, double, 21, timeout=SOON)

    assert thread.run(outer, timeout=SOON) == 42


# Deadlines


def test_work_that_takes_too_long_is_cancelled(thread):
    work = Work()

    with pytest.raises(LoopStalled):
        thread.run(work, timeout=0.05)

    assert work.cancelled.wait(SOON)


def test_arun_that_takes_too_long_is_cancelled(thread):
    work = Work()

    with pytest.raises(LoopStalled):
        asyncio.run(arun(thread, work, timeout=0.05))

    assert work.cancelled.wait(SOON)


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_a_blocked_loop_does_not_hold_the_caller(thread, blocked, timeout):
    began = time.monotonic()

    with pytest.raises(LoopStalled):
        thread.run(double, 21, timeout=timeout)

    assert time.monotonic() - began < timeout + SOON


def test_a_call_given_up_before_it_began_never_begins(thread, blocked):
    work = Work()
    with pytest.raises(LoopStalled):
        thread.run(work, timeout=0.05)

    blocked.set()
    thread.run(double, 21, timeout=SOON)

    assert not work.begun.is_set()


def test_a_result_that_comes_too_late_is_dropped(thread):
    async def stubborn():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            return "too late"

    with pytest.raises(LoopStalled):
        thread.run(stubborn, timeout=0.05)

    assert thread.run(double, 21, timeout=SOON) == 42


# What tries to end the loop


@pytest.mark.parametrize("exit_type", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_coroutine_is_the_callers_and_the_loop_goes_on(thread, exit_type):
    before = thread.run(identify, timeout=SOON)

    async def leave():
        raise exit_type("from a middleware")

    with pytest.raises(exit_type, match="from a middleware"):
        thread.run(leave, timeout=SOON)

    assert thread.run(identify, timeout=SOON) == before


@pytest.mark.parametrize("exit_type", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_bare_callback_is_logged_and_the_loop_goes_on(thread, exit_type, caplog):
    before = thread.run(identify, timeout=SOON)
    waiting = thread.submit(asyncio.sleep, 0.05, "still here")

    def leave():
        raise exit_type("from a driver")

    post(thread, leave)

    assert waiting.wait(SOON) == "still here"
    assert thread.run(identify, timeout=SOON) == before
    assert "tried to end the loop thread" in caplog.text


def test_an_exit_in_a_task_of_its_own_is_survived(thread, caplog):
    async def leave():
        raise SystemExit("from a driver")

    async def spawn():
        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        return task.exception()

    assert isinstance(thread.run(spawn, timeout=SOON), SystemExit)
    assert thread.run(double, 21, timeout=SOON) == 42


def test_an_error_in_a_bare_callback_is_logged_and_the_loop_goes_on(thread, caplog):
    post(thread, lambda: 1 / 0)

    assert thread.run(double, 21, timeout=SOON) == 42
    assert "ZeroDivisionError" in caplog.text


def test_a_foreign_loop_stop_does_not_end_the_loop(thread):
    before = thread.run(identify, timeout=SOON)

    async def stop():
        asyncio.get_running_loop().stop()

    for _ in range(3):
        thread.run(stop, timeout=SOON)

    assert thread.run(identify, timeout=SOON) == before


# What ends or blocks the loop all the same


def close_between_two_runs(running):
    """Close a loop as foreign code can: after it was stopped, before its thread runs it again."""
    with running._gate:
        running.loop.call_soon_threadsafe(running.loop.stop)
        deadline = time.monotonic() + SOON
        while running.loop.is_running():
            assert time.monotonic() < deadline
        running.loop.close()
    running.thread.join(SOON)


def test_a_loop_cannot_be_closed_by_a_callback(thread, caplog):
    before = thread.run(identify, timeout=SOON)

    post(thread, thread._running.loop.close)

    assert thread.run(identify, timeout=SOON) == before
    assert "Cannot close a running event loop" in caplog.text


def test_a_loop_that_foreign_code_closed_is_replaced(thread, caplog):
    thread.start()
    close_between_two_runs(thread._running)
    began = time.monotonic()

    result = thread.run(double, 21, timeout=LONG)

    assert result == 42
    assert time.monotonic() - began < SOON
    assert "Foreign code ended the loop thread" in caplog.text


def test_who_waits_for_a_loop_that_foreign_code_closes_is_told_at_once(thread):
    async def wait():
        asyncio.current_task()._log_destroy_pending = False
        begun.set()
        await asyncio.sleep(LONG)

    begun = threading.Event()
    call = thread.submit(wait)
    assert begun.wait(SOON)
    running = thread._running

    close_between_two_runs(running)
    late = loop_module.ThreadCall(loop_module.Work(double, (21,)), running, running.new_locked_lock())
    running.submit(late)

    for each in (call, late):
        with pytest.raises(LoopStopped):
            each.wait(SOON)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_for_any_other_reason_is_replaced(thread):
    """What logs that a callback wanted to leave is foreign code too."""

    class Leave(logging.Handler):
        def emit(self, record):
            raise SystemExit

    def leave():
        raise KeyboardInterrupt

    running = thread.start() or thread._running
    handler = Leave()
    loop_module.logger.addHandler(handler)

    post(thread, leave)
    running.thread.join(SOON)
    loop_module.logger.removeHandler(handler)

    assert not running.thread.is_alive()
    assert running.loop.is_closed()
    assert thread.run(double, 21, timeout=SOON) == 42


CLOSED_DESCRIPTORS = """
import asyncio, logging, os, time
from faststream_django.loop import LoopStopped, loop_thread

logging.basicConfig(format="%(message)s")

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

def call():
    began = time.monotonic()
    try:
        answer = loop_thread.run(double, 21, timeout=20)
    except LoopStopped:
        answer = "LoopStopped"
    print(answer, time.monotonic() - began < 1)

call()
"""
CLOSED = "Foreign code closed the descriptors of the loop thread ([Errno 9] Bad file descriptor); "


def test_loop_whose_descriptors_foreign_code_closed_is_replaced(run_script):
    """As daemons do. It must neither turn for ever, nor close descriptors that are other files by now."""
    done = run_script(
        CLOSED_DESCRIPTORS
        + textwrap.dedent(
            """
            os.closerange(3, 256)
            call()
            others = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
            call()
            loop_thread.stop()
            call()
            for each in others:
                os.close(each)
            """
        ),
        timeout=10,
    )

    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["42 True", "LoopStopped True", "42 True", "42 True"],
    )
    assert done.stderr.splitlines() == [CLOSED + "the next call starts another"]


def test_who_waits_for_loop_whose_descriptors_are_closed_is_told(run_script):
    done = run_script(
        CLOSED_DESCRIPTORS
        + textwrap.dedent(
            """
            began = time.monotonic()
            waiting = loop_thread.submit(asyncio.sleep, 20)
            loop_thread.run(double, 1, timeout=1)
            os.closerange(3, 256)
            try:
                waiting.wait(10)
            except LoopStopped:
                print("told", time.monotonic() - began < 2)
            call()
            """
        ),
        timeout=15,
    )

    assert (done.returncode, done.stdout.splitlines()) == (0, ["42 True", "told True", "42 True"])
    assert done.stderr.splitlines() == [CLOSED + "the next call starts another"]


@pytest.fixture
def _quick_pulse(monkeypatch):
    monkeypatch.setattr(watchdog, "TOO_LONG", 0.1)
    monkeypatch.setattr(watchdog, "BEAT", 0.02)


def blockages(caplog):
    return [record.getMessage() for record in caplog.records if "has been blocked for" in record.getMessage()]


@pytest.mark.usefixtures("_quick_pulse")
def test_a_blocked_loop_is_logged_once_with_its_lag_and_its_place(thread, blocked, caplog):
    for _ in range(2):
        with pytest.raises(LoopStalled):
            thread.run(double, 21, timeout=0.2)

    (text,) = blockages(caplog)
    assert 0.2 <= float(re.search(r"blocked for ([\d.]+) s", text)[1]) < SOON
    assert "release.wait(LONG)" in text


@pytest.mark.usefixtures("_quick_pulse")
def test_a_call_that_blocks_the_loop_itself_is_logged(thread, caplog):
    async def middleware():
        await asyncio.sleep(0.5)
        release.wait(LONG)

    release = threading.Event()

    with pytest.raises(LoopStalled):
        thread.run(middleware, timeout=1.5)
    release.set()

    (text,) = blockages(caplog)
    assert 0.1 < float(re.search(r"blocked for ([\d.]+) s", text)[1]) < 1.5
    assert "release.wait(LONG)" in text


@pytest.mark.usefixtures("_quick_pulse")
def test_the_next_blockage_is_logged_again(thread, caplog):
    async def block():
        release.wait(LONG)

    release = threading.Event()

    for _ in range(2):
        with pytest.raises(LoopStalled):
            thread.run(block, timeout=0.2)
        release.set()
        thread.run(double, 21, timeout=SOON)
        release.clear()

    assert len(blockages(caplog)) == 2


@pytest.mark.usefixtures("_quick_pulse")
def test_a_loop_that_turns_is_not_logged_however_long_its_work_takes(thread, caplog, monkeypatch):
    monkeypatch.setattr(watchdog, "TOO_LONG", 1.0)

    with pytest.raises(LoopStalled):
        thread.run(asyncio.sleep, LONG, timeout=2.0)

    assert blockages(caplog) == []


def test_the_pulse_stops_when_nobody_waits(thread):
    thread.run(double, 21, timeout=SOON)
    running = thread._running

    with pytest.raises(LoopStalled):
        thread.run(asyncio.sleep, LONG, timeout=0)
    loop_idle = threading.Event()
    running.loop.call_soon_threadsafe(running.loop.call_later, watchdog.BEAT * 1.5, loop_idle.set)

    assert loop_idle.wait(SOON)
    assert not running._pulse._is_beating
    assert running.under_way == set()


# Stop


def test_stop_ends_the_thread(thread):
    thread.start()

    thread.stop()

    assert not thread.is_started
    assert "tests" not in {each.name for each in threading.enumerate()}


def test_stop_of_what_does_not_run_does_nothing():
    LoopThread().stop()


def test_stop_twice_does_nothing_more(thread):
    thread.start()

    thread.stop()
    thread.stop()

    assert not thread.is_started


def test_a_call_after_stop_starts_a_new_thread(thread):
    thread.run(double, 1, timeout=SOON)
    thread.stop()

    assert thread.run(double, 21, timeout=SOON) == 42


def test_stop_awaits_the_closers_and_then_cancels_the_rest(thread):
    happened = []
    begun = threading.Event()

    async def work():
        begun.set()
        try:
            await asyncio.sleep(LONG)
        finally:
            happened.append("cancelled")

    async def close():
        await asyncio.sleep(0.05)
        happened.append("closed")

    async def register():
        thread.add_closer(close, 1.0)

    thread.run(register, timeout=SOON)
    thread.submit(work)
    assert begun.wait(SOON)

    thread.stop()

    assert happened == ["closed", "cancelled"]


def test_work_that_a_closer_waits_for_is_finished(thread):
    finish = asyncio.Event()

    async def work():
        await finish.wait()
        return "confirmed"

    async def close():
        finish.set()
        await asyncio.sleep(0.05)

    async def register():
        thread.add_closer(close, 1.0)

    thread.run(register, timeout=SOON)
    call = thread.submit(work)

    thread.stop()

    assert call.wait(0) == "confirmed"


def test_a_removed_closer_is_not_awaited(thread):
    closed = []

    async def close():
        closed.append(True)

    async def register():
        thread.add_closer(close, 1.0)
        thread.remove_closer(close)

    thread.run(register, timeout=SOON)

    thread.stop()

    assert closed == []


def test_a_closer_that_fails_does_not_stop_the_others(thread):
    closed = []

    async def fail():
        raise ValueError("closing failed")

    async def close():
        closed.append(True)

    async def register():
        thread.add_closer(fail, 1.0)
        thread.add_closer(close, 1.0)

    thread.run(register, timeout=SOON)

    thread.stop()

    assert closed == [True]


def test_a_closer_that_never_ends_is_bounded_by_its_time(thread, caplog):
    async def close():
        await asyncio.sleep(LONG)

    async def register():
        thread.add_closer(close, 0.3)

    thread.run(register, timeout=SOON)
    began = time.monotonic()

    thread.stop()

    assert 0.3 <= time.monotonic() - began < 0.3 + 2 * running_loop.CANCEL_TIMEOUT + SOON
    assert "did not finish its work within" in caplog.text


def test_work_that_ignores_its_cancellation_is_bounded(thread):
    async def stubborn():
        asyncio.current_task()._log_destroy_pending = False
        while True:
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                continue

    thread.submit(stubborn)
    thread.run(double, 1, timeout=SOON)
    began = time.monotonic()

    thread.stop()

    assert time.monotonic() - began < 2 * running_loop.CANCEL_TIMEOUT + SOON


def test_stop_with_a_blocked_loop_is_bounded(thread, blocked, caplog):
    began = time.monotonic()

    thread.stop()

    assert time.monotonic() - began < 2 * running_loop.CANCEL_TIMEOUT + SOON
    assert "blocked and was left behind" in caplog.text


def test_a_loop_that_was_left_behind_is_closed_when_it_wakes_up(thread, blocked):
    behind = thread._running
    thread.stop()
    assert thread.run(double, 21, timeout=SOON) == 42

    blocked.set()
    behind.thread.join(SOON)

    assert not behind.thread.is_alive()
    assert behind.loop.is_closed()


def test_whoever_waits_when_the_loop_stops_is_told_at_once(thread):
    calls = [Work() for _ in range(8)]
    errors = []

    def wait(work):
        with pytest.raises(LoopStopped) as caught:
            thread.run(work, timeout=LONG)
        errors.append(caught.value)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(wait, work) for work in calls]
        for work in calls:
            assert work.begun.wait(SOON)
        began = time.monotonic()
        thread.stop()
        for future in waiting:
            future.result(LONG)

    assert time.monotonic() - began < SOON
    assert len({id(error) for error in errors}) == 8


def test_whoever_awaits_when_the_loop_stops_is_told_at_once(thread):
    work = Work()

    async def main():
        task = asyncio.create_task(arun(thread, work, timeout=LONG))
        await asyncio.to_thread(work.begun.wait, SOON)
        await asyncio.to_thread(thread.stop)
        with pytest.raises(LoopStopped):
            await task

    began = time.monotonic()
    asyncio.run(main())

    assert time.monotonic() - began < SOON


def test_a_call_that_never_began_is_told_that_the_loop_stopped(thread, blocked):
    call = thread.submit(double, 21)

    thread.stop()

    with pytest.raises(LoopStopped):
        call.wait(SOON)


def test_a_call_that_the_end_of_the_loop_overtakes_is_told(thread, blocked):
    """Its task is cancelled before its first step, where nothing of it runs any more."""
    running = thread._running
    stopping = threading.Thread(target=thread.stop)
    stopping.start()
    while not running.inbox:
        assert stopping.is_alive()
    call = loop_module.ThreadCall(loop_module.Work(double, (21,)), running, running.new_locked_lock())
    running.submit(call)

    blocked.set()

    with pytest.raises(LoopStopped):
        call.wait(SOON)
    stopping.join(SOON)


@pytest.mark.parametrize("moment", ["shut_down", "end", "afterwards"])
def test_a_call_that_meets_the_end_of_the_loop_is_told(thread, monkeypatch, moment):
    """Its thread took hold of the loop before stop() did and hands over after the rest was cancelled."""
    thread.start()
    running = thread._running
    call = loop_module.ThreadCall(loop_module.Work(Work(), ()), running, running.new_locked_lock())
    shut_down, end = running.shut_down, running.end

    async def shut_down_and_meet():
        await shut_down()
        running.submit(call)
        await asyncio.sleep(0.05)

    def meet_and_end():
        running.submit(call)
        end()

    if moment == "shut_down":
        monkeypatch.setattr(running, "shut_down", shut_down_and_meet)
    elif moment == "end":
        monkeypatch.setattr(running, "end", meet_and_end)

    thread.stop()
    if moment == "afterwards":
        running.submit(call)

    with pytest.raises(LoopStopped):
        call.wait(SOON)


def test_calls_that_race_with_stop_never_hang(thread):
    halt = threading.Event()
    outcomes = {"done": 0, "stopped": 0}

    def call_on():
        while not halt.is_set():
            try:
                thread.run(double, 21, timeout=LONG)
                outcomes["done"] += 1
            except LoopStopped:
                outcomes["stopped"] += 1

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call_on) for _ in range(8)]
        for _ in range(150):
            thread.stop()
        halt.set()
        began = time.monotonic()
        for each in callers:
            each.result(LONG)

    assert time.monotonic() - began < SOON
    assert outcomes["done"] > 100


def test_starts_and_stops_from_many_threads_leave_one_thread(thread):
    def restart(_):
        for _ in range(25):
            thread.start()
            thread.stop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(restart, range(8)))
    thread.start()

    assert [each.name for each in threading.enumerate()].count("tests") == 1


# Ctrl-C


def test_ctrl_c_interrupts_a_waiting_caller_at_once_and_cancels_the_work(run_script):
    done = run_script(
        """
        import asyncio, os, signal, threading, time
        from faststream_django.loop import loop_thread

        cancelled = threading.Event()

        def interrupt(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)

        async def work():
            try:
                while True:  # Python sees a signal that comes just before it waits for a lock with the next
                    os.kill(os.getpid(), signal.SIGINT)
                    await asyncio.sleep(0.4)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        for timeout in (20, None):
            began, armed = time.monotonic(), True
            cancelled.clear()
            try:
                loop_thread.run(work, timeout=timeout)
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - began < 10, cancelled.wait(10))
        print(loop_thread.run(asyncio.sleep, 0, "goes on", timeout=10))
        """
    )

    assert_clean(done, "interrupted True True", "interrupted True True", "goes on")


class Alarm(BaseException):
    """What a signal handler raises."""


def alarm_at(step, function):
    """Call a function, with Alarm raised before one bytecode of the loop room; tell whether it was."""
    modules = {module.__file__ for module in (loop_module, calls, running_loop, wakeup, watchdog)}
    steps = itertools.count()

    def trace(frame, event, _):
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == step:
            raise Alarm
        return trace

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: trace if frame.f_code.co_filename in modules else None)
    try:
        function()
    except Alarm:
        return True
    finally:
        sys.settrace(before)
    return False


def test_exception_at_any_bytecode_of_call_leaves_loop_well(thread):
    """A signal handler may raise anywhere: Ctrl-C, a soft time limit, an alarm."""
    thread.start()
    running = thread._running

    for step in itertools.count():
        raised = alarm_at(step, lambda: thread.run(double, 1, timeout=SOON))
        if not raised:
            break
        assert thread.run(double, 21, timeout=SOON) == 42, step
        thread.run(asyncio.sleep, 0, timeout=SOON)
        assert running.under_way == set(), step

    assert step > 100


def test_call_that_relied_on_interrupted_wake_is_woken_for(thread, monkeypatch):
    """Another thread comes while the first is about to wake the loop, and never does."""
    thread.start()
    counter = thread._running._wakeup
    wake, others = counter.wake, []

    def interrupted():
        monkeypatch.setattr(counter, "wake", wake)
        with ThreadPoolExecutor(1) as pool:
            others.append(pool.submit(thread.submit, double, 21).result(SOON))
        raise Alarm

    monkeypatch.setattr(counter, "wake", interrupted)
    with pytest.raises(Alarm):
        thread.run(double, 1, timeout=LONG)

    assert others[0].wait(SOON) == 42


def test_call_that_was_not_answered_in_time_wakes_loop_again(thread):
    """Whatever the reason was, the next call is not to wait in vain too."""
    thread.start()
    running = thread._running
    running.inbox.append(call := loop_module.ThreadCall(loop_module.Work(double, (21,)), running, new_lock()))

    running.stalled()

    assert call.wait(SOON) == 42


def test_hung_resolver_does_not_delay_exit(run_script):
    """asyncio's own threads for it are joined at exit."""
    done = run_script(
        """
        import asyncio, socket, threading, time
        from faststream_django.loop import LoopStalled, loop_thread

        resolving = threading.Event()

        def hang(*args, **options):
            resolving.set()
            time.sleep(60)

        socket.getaddrinfo = hang

        async def resolve():
            await asyncio.get_running_loop().getaddrinfo("host", 5672)

        try:
            loop_thread.run(resolve, timeout=0.1)
        except LoopStalled:
            print("stalled", resolving.wait(1))
        """,
        timeout=10,
    )

    assert_clean(done, "stalled True")


def test_names_are_resolved(thread):
    async def resolve(name, port):
        return await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)

    answers = thread.run(resolve, "127.0.0.1", 5672, timeout=LONG)

    assert [answer[4] for answer in answers] == [("127.0.0.1", 5672)]
    with pytest.raises(socket.gaierror):
        thread.run(resolve, "no such host", 5672, timeout=LONG)


def test_development_mode_does_not_complain_of_slow_callbacks(run_script):
    done = run_script(
        """
        import asyncio, logging, time
        from faststream_django.loop import loop_thread

        logging.basicConfig()

        async def slow():
            time.sleep(0.2)
            return asyncio.get_running_loop().get_debug()

        print(loop_thread.run(slow, timeout=5))
        """,
        env={"PYTHONDEVMODE": "1"},
    )

    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "took" not in done.stderr


EVENTLET = """
import sys, types

eventlet = types.ModuleType("eventlet")
eventlet.patcher = types.ModuleType("eventlet.patcher")
eventlet.patcher.already_patched = {"thread": True, "socket": True, "os": False}
sys.modules |= {"eventlet": eventlet, "eventlet.patcher": eventlet.patcher}
"""


def test_eventlet_is_refused_and_the_site_left_alone(run_script):
    """A stand-in says what eventlet says: the real one cannot be imported where warnings are errors."""
    done = run_script(
        EVENTLET
        + textwrap.dedent(
            """
            import asyncio, threading
            import django

            django.setup()
            from faststream_django import brokers, publish
            from faststream_django.exceptions import BrokerUnavailable

            brokers.start()
            try:
                publish("x", "orders")
            except BrokerUnavailable as error:
                print(error.maybe_sent, error)
            print(threading.active_count())
            """
        )
    )

    assert (done.returncode, done.stderr) == (0, "")
    refusal, threads = done.stdout.splitlines()
    assert refusal.startswith("False ")
    assert "eventlet has patched socket, thread" in refusal
    assert "celery -P gevent" in refusal
    assert threads == "1"


# Fork. Each program watches a pipe on the parent's loop: the kernel shares the set of watched files
# between parent and child, and a child that cleans up behind itself takes them out of both.

FORKS = """
import asyncio, os, sys, threading, time, warnings
from faststream_django.loop import thread as loop_module
from faststream_django.loop import calls, watchdog, running as running_loop, wakeup
from faststream_django.loop import LoopStalled, loop_thread

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

async def watch():
    mine, theirs = os.pipe()
    received = asyncio.Queue()
    asyncio.get_running_loop().add_reader(mine, lambda: received.put_nowait(os.read(mine, 1)))
    return theirs, received

theirs, received = loop_thread.run(watch, timeout=10)

def parent_is_well():
    assert loop_thread.run(double, 21, timeout=10) == 42
    os.write(theirs, b"x")
    assert loop_thread.run(received.get, timeout=10) == b"x"

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def child_calls():
    began = time.monotonic()
    assert loop_thread.run(double, 4, timeout=10) == 8
    assert time.monotonic() - began < 5
"""
# The threads are the program's own, so is the warning.
FORKS_WITH_THREADS = (
    FORKS
    + """
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
"""
)


def script(*parts):
    return "".join(textwrap.dedent(part) for part in parts)


def test_forks_are_quiet_and_leave_both_sides_well(run_script):
    """Python warns of a fork while another thread runs (and drops the warning where it is an error)."""
    done = run_script(
        script(
            """
            import os, threading, time, warnings

            def fork_and_collect_warnings():
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    return os.fork(), [str(warning.message) for warning in caught]

            # Python 3.13.0 counts the threads only after the hooks that may start one in the parent.
            probe = threading.Thread(target=time.sleep, args=(0.1,))
            probing = [probe.start]
            os.register_at_fork(after_in_parent=lambda: probing and probing.pop()())
            pid, counts_too_late = fork_and_collect_warnings()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            probe.join()
            """,
            FORKS,
            """
            for number in range(50):
                pid, warned = fork_and_collect_warnings()
                if pid == 0:
                    assert not loop_thread.is_started
                    child_calls()
                    os._exit(7)
                assert counts_too_late or not warned, warned
                assert ended(pid) == 7, number
                parent_is_well()
            print("50 forks")
            """,
        )
    )

    assert_clean(done, "50 forks")


def test_forks_under_working_threads(run_script):
    done = run_script(
        script(
            FORKS_WITH_THREADS,
            """
            halt = threading.Event()
            done, errors = [0] * 4, []

            def work(index):
                while not halt.is_set():
                    try:
                        assert loop_thread.run(double, index, timeout=2) == 2 * index
                        done[index] += 1
                    except BaseException as error:
                        errors.append(error)

            workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
            for worker in workers:
                worker.start()
            slowest = 0
            for number in range(50):
                before = sum(done)
                began = time.monotonic()
                pid = os.fork()
                if pid == 0:
                    child_calls()
                    os._exit(7)
                slowest = max(slowest, time.monotonic() - began)
                assert ended(pid) == 7, number
                while sum(done) < before + 20:
                    time.sleep(0.001)
            parent_is_well()
            halt.set()
            for worker in workers:
                worker.join()
            print(errors, slowest < 0.5)
            """,
        )
    )

    assert_clean(done, "[] True")


def test_forks_from_several_threads_at_once(run_script):
    done = run_script(
        script(
            FORKS_WITH_THREADS,
            """
            codes = []
            barrier = threading.Barrier(6)

            def fork():
                barrier.wait(5)
                for _ in range(5):
                    pid = os.fork()
                    if pid == 0:
                        child_calls()
                        os._exit(7)
                    codes.append(ended(pid))

            threads = [threading.Thread(target=fork) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            parent_is_well()
            print(codes == [7] * 30)
            """,
        )
    )

    assert_clean(done, "True")


def test_a_fork_inside_a_coroutine(run_script):
    """The child is in the middle of the parent's loop: it may use a loop of its own, and must not return."""
    done = run_script(
        script(
            FORKS_WITH_THREADS,
            """
            async def fork():
                pid = os.fork()
                if pid == 0:
                    assert not loop_thread.is_current()
                    child_calls()
                    os._exit(7)
                return await asyncio.to_thread(ended, pid)

            for _ in range(3):
                print(loop_thread.run(fork, timeout=5))
                parent_is_well()
            """,
        )
    )

    assert_clean(done, "7", "7", "7")


def test_a_fork_goes_on_when_the_loop_is_blocked(run_script):
    done = run_script(
        script(
            FORKS_WITH_THREADS,
            """
            running_loop.QUIESCE_TIMEOUT = 0.3
            entered, release = threading.Event(), threading.Event()

            async def block():
                entered.set()
                release.wait(10)
                return "unblocked"

            blocked = loop_thread.submit(block)
            entered.wait(10)
            began = time.monotonic()
            pid = os.fork()
            if pid == 0:
                child_calls()
                os._exit(7)
            print(0.3 <= time.monotonic() - began < 8, ended(pid))
            release.set()
            print(blocked.wait(10))
            parent_is_well()
            pid = os.fork()
            if pid == 0:
                os._exit(7)
            print(ended(pid))
            parent_is_well()
            """,
        )
    )

    assert_clean(done, "True 7", "unblocked", "7")


def test_however_a_child_ends_the_parent_goes_on(run_script):
    done = run_script(
        script(
            FORKS,
            """
            import gc
            from multiprocessing import get_context

            def leave_by(way):
                if way == "_exit":
                    os._exit(7)
                if way == "exit":
                    sys.exit(7)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                raise RuntimeError("the child fails")

            for way in ("_exit", "exit", "error"):
                for calls in (False, True):
                    pid = os.fork()
                    if pid == 0:
                        gc.collect()
                        if calls:
                            child_calls()
                        leave_by(way)
                    assert ended(pid) == (1 if way == "error" else 7), (way, calls)
                    parent_is_well()

            # The last reference that the program itself holds is gone in the child.
            pid = os.fork()
            if pid == 0:
                del received, loop_module.loop_thread, loop_thread
                gc.collect()
                sys.exit(7)
            assert ended(pid) == 7
            parent_is_well()

            # A child that stops what it started, and a grandchild.
            pid = os.fork()
            if pid == 0:
                loop_thread.stop()
                child_calls()
                grandchild = os.fork()
                if grandchild == 0:
                    child_calls()
                    sys.exit(7)
                assert ended(grandchild) == 7
                child_calls()
                loop_thread.stop()
                sys.exit(7)
            assert ended(pid) == 7
            parent_is_well()
            print("well")
            """,
        )
    )

    assert_clean(done, "well")


def test_multiprocessing(run_script):
    """Both ways to start a process; forks come first, before the pool's own threads run."""
    done = run_script(
        """
        import asyncio, multiprocessing
        from faststream_django.loop import loop_thread

        async def double(number):
            await asyncio.sleep(0)
            return 2 * number

        def work(number):
            return loop_thread.run(double, number, timeout=5)

        if __name__ == "__main__":
            work(1)
            for method in ("fork", "spawn"):
                context = multiprocessing.get_context(method)
                process = context.Process(target=work, args=(1,))
                process.start()
                process.join()
                with context.Pool(2) as pool:
                    print(method, process.exitcode, pool.map(work, range(4)), work(21))
                    pool.close()
                    pool.join()
        """
    )

    assert_clean(done, "fork 0 [0, 2, 4, 6] 42", "spawn 0 [0, 2, 4, 6] 42")


def test_a_fork_without_the_hooks_of_python(run_script):
    """A server written in C may fork by itself, as uWSGI does."""
    done = run_script(
        script(
            FORKS,
            """
            import ctypes
            fork = ctypes.PyDLL(None).fork  # keeps the GIL
            pid = fork()
            if pid == 0:
                child_calls()
                os._exit(7)
            print(ended(pid))
            parent_is_well()
            """,
        )
    )

    assert_clean(done, "7")


def test_fork_after_which_no_thread_can_be_started(run_script):
    """At the limit of processes the child may take the place of the loop thread, which paused for it."""
    done = run_script(
        script(
            FORKS,
            """
            from faststream_django.loop import LoopStopped

            start = threading.Thread.start

            def fail(thread):
                threading.Thread.start = start
                raise RuntimeError("can't start new thread")

            waiting = loop_thread.submit(asyncio.sleep, 20)
            threading.Thread.start = fail
            pid = os.fork()
            threading.Thread.start = start
            if pid == 0:
                child_calls()
                os._exit(7)
            began = time.monotonic()
            try:
                waiting.wait(10)
            except LoopStopped as error:
                print(error, time.monotonic() - began < 1)
            print(ended(pid), loop_thread.run(double, 21, timeout=1))
            pid = os.fork()
            if pid == 0:
                child_calls()
                os._exit(7)
            print(ended(pid), loop_thread.run(double, 21, timeout=1))
            """,
        )
    )

    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["no loop thread can be started: can't start new thread True", "7 42", "7 42"],
    )
    assert done.stderr.splitlines() == [loop_module.GONE % "can't start new thread"]


@pytest.mark.skipif(os.geteuid() != 0, reason="The limit needs a user that has no other processes.")
def test_fork_at_the_limit_of_processes(run_script):
    done = run_script(
        script(
            FORKS,
            """
            import resource
            from faststream_django.loop import LoopStopped

            os.setuid(64_321)
            _, most = resource.getrlimit(resource.RLIMIT_NPROC)
            waiting = loop_thread.submit(asyncio.sleep, 20)
            resource.setrlimit(resource.RLIMIT_NPROC, (2, most))  # this thread and that of the loop
            mine, theirs = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(theirs)
                os.read(mine, 1)
                os._exit(7)
            for call in (waiting, loop_thread.submit(double, 21)):
                began = time.monotonic()
                try:
                    call.wait(10)
                except LoopStopped as error:
                    print(error, time.monotonic() - began < 1)
            os.close(theirs)
            print(ended(pid), loop_thread.run(double, 21, timeout=1))
            """,
        ),
        timeout=10,
    )

    refused = "no loop thread can be started: can't start new thread True"
    assert (done.returncode, done.stdout.splitlines()) == (0, [refused, refused, "7 42"])
    assert done.stderr.splitlines() == [loop_module.GONE % "can't start new thread"]


# The end of the interpreter

WORK_IN_FLIGHT = """
import asyncio, atexit, os, sys, threading, time
from faststream_django.loop import LoopStopped, loop_thread

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

def say(text):
    os.write(1, f"{text}\\n".encode())

def call(name):
    began = time.monotonic()
    try:
        answer = loop_thread.run(double, 21, timeout=20)
    except LoopStopped as error:
        answer = f"LoopStopped: {error}"
    say(f"{name} {answer} {time.monotonic() - began < 5}")
"""
STOPPED = "LoopStopped: the interpreter is shutting down"


@pytest.mark.parametrize("way_out", ["", "sys.exit(0)", "raise SystemExit"])
def test_the_interpreter_ends_with_work_in_flight(run_script, way_out):
    done = run_script(
        script(
            WORK_IN_FLIGHT,
            f"""
            async def work():
                try:
                    await asyncio.sleep(20)
                finally:
                    say("cancelled")

            async def close():
                say("closed")

            async def register():
                loop_thread.add_closer(close, 1.0)

            def wait():
                try:
                    loop_thread.run(work, timeout=20)
                except LoopStopped:
                    say("told")

            loop_thread.run(register, timeout=10)
            waiting = threading.Thread(target=wait, daemon=True)
            waiting.start()
            call("main")
            atexit.register(lambda: say(f"atexit {{time.monotonic() - began < 10}}"))
            began = time.monotonic()
            {way_out}
            """,
        ),
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert {"main 42 True", "closed", "cancelled", "atexit True"} <= set(done.stdout.splitlines())


def test_calls_while_the_interpreter_ends(run_script):
    """From a thread that outlives main, from exit handlers before and after ours, from __del__."""
    done = run_script(
        script(
            WORK_IN_FLIGHT,
            """
            class Kept:
                def __del__(self):
                    call(f"__del__ finalizing={sys.is_finalizing()}")

            def after_main():
                threading.main_thread().join()
                call("thread after main")

            atexit.register(call, "handler registered before ours")
            call("main")
            atexit.register(call, "handler registered after ours")
            threading.Thread(target=after_main).start()
            kept = Kept()
            sys.modules["kept"] = kept
            """,
        ),
    )

    assert_clean(
        done,
        "main 42 True",
        "thread after main 42 True",
        "handler registered after ours 42 True",
        f"handler registered before ours {STOPPED} True",
        f"__del__ finalizing=True {STOPPED} True",
    )


def test_a_first_call_while_the_interpreter_ends_works_or_is_refused_at_once(run_script):
    done = run_script(
        script(
            WORK_IN_FLIGHT,
            """
            class Kept:
                def __del__(self):
                    call("__del__")

            atexit.register(call, "handler")
            kept = Kept()
            """,
        ),
    )

    assert (done.returncode, done.stderr) == (0, "")
    handler, last = done.stdout.splitlines()
    no_thread = "handler LoopStopped: no loop thread can be started: can't"  # Python 3.12, uvloop
    assert handler in {"handler 42 True", f"handler {STOPPED} True"} or handler.startswith(no_thread)
    assert last == f"__del__ {STOPPED} True"


def test_the_interpreter_ends_although_the_loop_is_blocked(run_script):
    done = run_script(
        script(
            WORK_IN_FLIGHT,
            """
            entered = threading.Event()

            async def block():
                entered.set()
                time.sleep(30)

            atexit.register(lambda: say(f"stopped {time.monotonic() - began < 10}"))
            loop_thread.submit(block)
            entered.wait()
            began = time.monotonic()
            """,
        ),
    )

    assert (done.returncode, done.stdout) == (0, "stopped True\n")
    assert "Exception" not in done.stderr


def test_sigterm_ends_a_process_with_work_in_flight(run_script):
    done = run_script(
        script(
            WORK_IN_FLIGHT,
            """
            import signal

            async def work():
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(20)

            loop_thread.run(work, timeout=20)
            """,
        ),
    )

    assert done.returncode == -signal.SIGTERM
    assert done.stderr == ""
