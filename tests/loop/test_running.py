import asyncio
import logging
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faststream_django.loop import LoopStalled, LoopStopped, LoopThread, watchdog
from faststream_django.loop import running as running_loop
from faststream_django.loop import thread as loop_module
from tests.loop.calling import LONG, SOON, Work, arun, double, identify, not_with_uvloop, post


@pytest.fixture(autouse=True)
def _short_cancel_timeout(monkeypatch):
    monkeypatch.setattr(running_loop, "CANCEL_TIMEOUT", 0.3)


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
    late = loop_module.ThreadCall(loop_module.CoroutineJob(double, (21,)), running, running.new_call_lock())
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


@not_with_uvloop
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


@not_with_uvloop
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


def test_the_pulse_stops_when_nobody_waits(thread):
    thread.run(double, 21, timeout=SOON)
    running = thread._running

    with pytest.raises(LoopStalled):
        thread.run(asyncio.sleep, LONG, timeout=0)
    loop_idle = threading.Event()
    running.loop.call_soon_threadsafe(running.loop.call_later, watchdog.BEAT * 1.5, loop_idle.set)

    assert loop_idle.wait(SOON)
    assert not running._watchdog.is_beating
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


@pytest.mark.parametrize("first_one_is_added", ["first", "last"])
def test_first_closers_have_ended_before_the_others_begin(thread, first_one_is_added):
    order = []

    async def finish():
        await asyncio.sleep(0)
        order.append("finished")

    async def close():
        order.append("closed")

    async def prepare():
        for closer in (finish, close) if first_one_is_added == "first" else (close, finish):
            thread.add_closer(closer, 1.0, first=closer is finish)

    thread.run(prepare, timeout=SOON)
    thread.stop()

    assert order == ["finished", "closed"]


def test_what_a_closer_waits_for_may_call_the_loop_that_stops(thread):
    called = []

    async def close():
        called.append(thread.is_current())
        called.append(await arun(thread, identify, timeout=SOON))

    async def prepare():
        thread.add_closer(close, 1.0)
        return threading.get_ident()

    loop_thread_id = thread.run(prepare, timeout=SOON)
    thread.stop()

    assert called == [True, loop_thread_id]


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
    call = loop_module.ThreadCall(loop_module.CoroutineJob(double, (21,)), running, running.new_call_lock())
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
    call = loop_module.ThreadCall(loop_module.CoroutineJob(Work(), ()), running, running.new_call_lock())
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
