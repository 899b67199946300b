import signal

import pytest

from tests.loop.calling import assert_clean, script

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
