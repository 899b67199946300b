"""What tells a process to stop, whichever thread the system gives a signal to."""

import signal
import sys
import threading
import time

import pytest

from faststream_django.worker.processes import Processes
from faststream_django.worker.worker import Worker


def strike_while_it_waits(name):
    """Send SIGTERM to this thread once the main one waits in the method; its Python handler runs there."""
    main = threading.main_thread().ident
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if sys._current_frames()[main].f_code.co_name == name:
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            return


@pytest.mark.parametrize(
    "run",
    [
        lambda: Worker([], shutdown_timeout=1.0).run(),
        lambda: Processes(0, shutdown_timeout=1.0).run(),
    ],
    ids=["worker", "processes"],
)
@pytest.mark.timeout(30)
def test_signal_that_another_thread_gets_stops_it(run):
    threading.Thread(target=strike_while_it_waits, args=("_next_event",), daemon=True).start()

    run()
