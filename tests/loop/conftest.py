import threading

import pytest

from faststream_django.loop import LoopThread
from tests.loop.calling import LONG, SOON, post


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
