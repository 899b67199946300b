"""Ends of processes, each in one of its own."""

import time

import pytest

AT_ONCE = """
import atexit, sys, threading, time
from faststream_django.worker.ending import end_at_once

threading.Thread(target=time.sleep, args=[60]).start()
atexit.register(print, "never")
sys.stdout.write("what was said")
{more}
end_at_once()
"""
BY = """
import threading, time
from faststream_django.worker.ending import end_by

end_by(time.monotonic() + {seconds})
threading.Thread(target=time.sleep, args=[{sleep}]).start()
"""


def test_process_ends_although_threads_run(run_script):
    done = run_script(AT_ONCE.format(more=""))

    assert (done.returncode, done.stdout) == (3, "what was said")


def test_logging_that_hangs_holds_nothing_up(run_script):
    began = time.monotonic()
    done = run_script(
        AT_ONCE.format(
            more="""
import logging
class Hanging(logging.Handler):
    def flush(self): time.sleep(60)
logging.getLogger().addHandler(Hanging())
"""
        )
    )

    assert done.returncode == 3
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("seconds", "sleep", "code"), [(0.1, 60, 3), (60, 0.1, 0)])
def test_process_ends_by_its_deadline(run_script, seconds, sleep, code):
    began = time.monotonic()
    done = run_script(BY.format(seconds=seconds, sleep=sleep))

    assert done.returncode == code
    assert time.monotonic() - began < 10
