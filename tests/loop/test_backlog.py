"""What is put into a backlog is taken on its thread, unless there is too much of it or the process ends."""

import threading
from itertools import chain

import pytest

from faststream_django.loop.backlog import Backlog, Limits
from tests.loop.calling import LONG, SOON, assert_clean, script


class Recorder:
    """Work that waits for permission, and notes what it did."""

    def __init__(self):
        self.taken = []
        self.idents = set()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.has_begun = threading.Event()
        self.has_rested = threading.Event()
        self.progress = threading.Condition()
        self.error = None

    def take(self, items):
        self.idents.add(threading.get_ident())
        self.has_begun.set()
        assert self.may_go_on.wait(LONG)
        with self.progress:
            self.taken.append(items)
            self.progress.notify_all()
        if self.error is not None:
            raise self.error

    def rest(self):
        self.has_rested.set()

    def weigh(self, item):
        return len(str(item))

    def items(self):
        return list(chain.from_iterable(self.taken))

    def wait_for(self, *items):
        with self.progress:
            assert self.progress.wait_for(lambda: self.items() == list(items), SOON), self.taken


@pytest.fixture
def work():
    return Recorder()


@pytest.fixture
def backlog(work, thread):
    made = []

    def make(**limits):
        made.append(Backlog("tests", work, Limits(**limits), thread))
        return made[-1]

    yield make
    work.may_go_on.set()
    for each in made:
        each.stop(SOON)
        each._working.clear()  # else what a test has left would start its thread again after a fork


def test_items_are_taken_in_order_on_another_thread(backlog, work):
    backlog = backlog()

    assert backlog.put([1, 2]) == 2
    assert backlog.put([3]) == 1

    work.wait_for(1, 2, 3)
    assert threading.get_ident() not in work.idents


def test_what_came_meanwhile_is_taken_together(backlog, work):
    backlog = backlog(batch=3)
    work.may_go_on.clear()
    backlog.put([0])
    assert work.has_begun.wait(SOON)

    for number in range(1, 6):
        backlog.put([number])
    work.may_go_on.set()

    work.wait_for(*range(6))
    assert work.taken == [[0], [1, 2, 3], [4, 5]]
    assert len(work.idents) == 1


def test_where_much_comes_more_of_it_shares_a_batch(backlog, work):
    backlog = backlog(gathering=LONG)
    work.may_go_on.clear()
    backlog.put([0])
    assert work.has_begun.wait(SOON)
    backlog.put([1, 2, 3])
    work.may_go_on.set()
    work.wait_for(0)

    backlog.put([4])
    backlog.stop(SOON)  # which ends the waiting too

    assert work.taken == [[0], [1, 2, 3, 4]]


def test_only_what_there_is_room_for_is_taken(backlog, work):
    backlog = backlog(most=3)
    work.may_go_on.clear()
    backlog.put([0])
    assert work.has_begun.wait(SOON)

    assert backlog.put([1, 2, 3, 4, 5]) == 3
    assert backlog.put([6]) == 0

    work.may_go_on.set()
    work.wait_for(0, 1, 2, 3)
    assert backlog.put([7]) == 1


def test_bytes_are_limited_and_given_back(backlog, work):
    backlog = backlog(most_bytes=5)

    for _ in range(3):
        work.may_go_on.clear()
        work.has_begun.clear()
        backlog.put(["a"])
        assert work.has_begun.wait(SOON)
        assert backlog.put(["abc", "de", "f"]) == 2
        work.may_go_on.set()
        work.wait_for("a", "abc", "de")
        work.taken.clear()


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1)], ids=["error", "exit"])
def test_thread_goes_on_after_error(backlog, work, error, caplog):
    backlog = backlog()
    work.error = error
    backlog.put([1])
    work.wait_for(1)
    work.error = None

    backlog.put([2])

    work.wait_for(1, 2)
    assert len(work.idents) == 1
    assert "could not do its work; it goes on" in caplog.text


def test_thread_rests_when_there_is_nothing_to_do_and_goes_on(backlog, work):
    backlog = backlog(idle=0.01)
    backlog.put([1])

    assert work.has_rested.wait(SOON)

    backlog.put([2])
    work.wait_for(1, 2)
    assert len(work.idents) == 1


def test_stop_takes_what_waits_and_next_item_starts_another_thread(backlog, work):
    backlog = backlog(batch=1)
    work.may_go_on.clear()
    backlog.put([1, 2, 3])
    assert work.has_begun.wait(SOON)
    threading.Timer(0.05, work.may_go_on.set).start()

    backlog.stop(SOON)

    assert work.taken == [[1], [2], [3]]
    assert work.has_rested.is_set()
    backlog.put([4])
    work.wait_for(1, 2, 3, 4)


def test_stop_is_bounded(backlog, work):
    backlog = backlog(batch=1)
    work.may_go_on.clear()
    backlog.put([1, 2])
    assert work.has_begun.wait(SOON)

    backlog.stop(0.01)
    work.may_go_on.set()
    backlog.stop(SOON)

    assert work.taken == [[1]]


def test_item_after_thread_was_told_to_end_is_taken(backlog, work):
    """It goes on, or another begins: whichever, nothing stays behind."""
    backlog = backlog()
    for number in range(300):
        backlog.put([number])
        stopping = threading.Thread(target=backlog.stop, args=[SOON])
        stopping.start()
        backlog.put([-number])
        stopping.join()
        backlog.put(["end"])
        with work.progress:
            assert work.progress.wait_for(lambda: "end" in work.items(), SOON), number
            assert sorted(work.items(), key=str) == sorted([number, -number, "end"], key=str)
            work.taken.clear()


PROGRAM = """
import os, sys, threading, time
from faststream_django.loop.backlog import Backlog, Limits
from faststream_django.loop import loop_thread

class Work:
    seconds = 0.0
    taken = []
    def take(self, items):
        time.sleep(self.seconds)
        self.taken += items
        if said:
            print(*items, flush=True)
    def rest(self):
        if said:
            print("rest", flush=True)
    def weigh(self, item):
        return 1

said = False
work = Work()
backlog = Backlog("tests", work, Limits(batch=1))

def wait_for(*items):
    deadline = time.monotonic() + 30
    while work.taken != list(items):
        assert time.monotonic() < deadline, work.taken
        time.sleep(0.001)
"""


def test_exit_takes_what_waits_while_loop_still_runs(run_script):
    done = run_script(
        script(
            PROGRAM,
            """
            async def answer():
                return "sent"

            def take(items):
                print(*items, loop_thread.run(answer, timeout=5), flush=True)

            work.take = take
            said = True
            backlog.put([1, 2])
            """,
        )
    )

    assert_clean(done, "1 sent", "2 sent", "rest")


def test_exit_does_not_wait_for_slow_work(run_script):
    done = run_script(
        script(
            PROGRAM,
            """
            work.seconds = 60
            backlog.put([1, 2])
            """,
        ),
        timeout=20,
    )

    assert_clean(done)


def test_item_at_exit_is_refused(run_script):
    done = run_script(
        script(
            """
            import atexit
            atexit.register(lambda: print(backlog.put([1]), flush=True))  # called last
            """,
            PROGRAM,
            "backlog.put([0])",
        )
    )

    assert_clean(done, "0")


def test_both_sides_of_fork_go_on(run_script):
    """Quietly: Python warns of a fork while another thread runs."""
    done = run_script(
        script(
            PROGRAM,
            """
            backlog.put([1])
            wait_for(1)
            for _ in range(20):
                work.seconds = 0.01
                work.taken.clear()
                backlog.put([2, 3, 4])  # the first is under way, the others wait
                pid = os.fork()
                if pid == 0:
                    work.seconds = 0
                    work.taken.clear()
                    backlog.put([5])
                    wait_for(5)
                    os._exit(0)
                wait_for(2, 3, 4)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                backlog.put([6])
                wait_for(2, 3, 4, 6)
            print("well")
            """,
        )
    )

    assert_clean(done, "well")


def test_fork_by_thread_itself_does_not_wait_for_it(run_script):
    done = run_script(
        script(
            PROGRAM,
            """
            def take(items):
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
                work.taken += items

            import warnings
            warnings.simplefilter("ignore", DeprecationWarning)  # the main thread runs beside it
            work.take = take
            backlog.put([1])
            wait_for(1)
            work.take = Work.take.__get__(work)
            backlog.put([2])
            wait_for(1, 2)
            print("well")
            """,
        )
    )

    assert_clean(done, "well")


def test_child_without_hooks_of_python_has_backlog_of_its_own(run_script):
    """As uWSGI forks: the hooks are not called."""
    done = run_script(
        script(
            PROGRAM,
            """
            backlog.put([1])
            wait_for(1)
            import ctypes
            backlog._before_fork()  # so that no thread of Python is lost in the child
            loop_thread.stop()
            pid = ctypes.PyDLL(None).fork()
            if pid == 0:
                work.taken.clear()
                backlog.put([2])
                wait_for(2)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            print("well")
            """,
        )
    )

    assert_clean(done, "well")


def test_nothing_is_taken_where_no_thread_can_be_started(backlog, work, monkeypatch):
    backlog = backlog()

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        backlog.put([1])

    assert work.taken == []
    backlog.put([2])
    work.wait_for(1, 2)
