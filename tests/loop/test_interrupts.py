import asyncio
import itertools
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from faststream_django.loop import calls, wakeup, watchdog
from faststream_django.loop import running as running_loop
from faststream_django.loop import thread as loop_module
from tests.loop.calling import LONG, SOON, double


@pytest.fixture(autouse=True)
def _short_cancel_timeout(monkeypatch):
    monkeypatch.setattr(running_loop, "CANCEL_TIMEOUT", 0.3)


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
    running.inbox.append(
        call := loop_module.ThreadCall(
            loop_module.CoroutineJob(double, (21,)), running, running.new_call_lock()
        )
    )

    running.stalled()

    assert call.wait(SOON) == 42


def test_call_may_be_waited_for_again_although_ctrl_c_came_when_lock_was_taken(thread):
    call = thread.submit(asyncio.sleep, 0, "done")
    call.wait(SOON)
    call._lock.acquire()  # what an interrupted wait() leaves behind

    assert call.wait(0.1) == "done"


def test_names_are_resolved(thread):
    async def resolve(name, port):
        return await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)

    answers = thread.run(resolve, "127.0.0.1", 5672, timeout=LONG)

    assert [answer[4] for answer in answers] == [("127.0.0.1", 5672)]
    with pytest.raises(socket.gaierror):
        thread.run(resolve, "no such host", 5672, timeout=LONG)
