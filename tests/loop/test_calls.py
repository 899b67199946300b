import asyncio
import contextvars
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faststream_django.loop import LoopStalled, LoopThread
from faststream_django.loop import running as running_loop
from tests.loop.calling import LONG, SOON, Work, arun, double, identify, post

caller = contextvars.ContextVar("caller")


@pytest.fixture(autouse=True)
def _short_cancel_timeout(monkeypatch):
    monkeypatch.setattr(running_loop, "CANCEL_TIMEOUT", 0.3)


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
