import os

import pytest

from faststream_django.loop import thread as loop_module
from tests.loop.calling import assert_clean, script

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
        env={"COVERAGE_PROCESS_CONFIG": None},  # this user may not write where the figures are kept
    )

    refused = "no loop thread can be started: can't start new thread True"
    assert (done.returncode, done.stdout.splitlines()) == (0, [refused, refused, "7 42"])
    assert done.stderr.splitlines() == [loop_module.GONE % "can't start new thread"]
