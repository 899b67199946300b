import asyncio
import textwrap
import threading
from importlib.util import find_spec

import pytest

from faststream_django.loop import thread as loop_module


async def arun(thread, function, *args, timeout):
    """Wait in an event loop for what the loop thread does."""
    return await thread.arun_job(loop_module.CoroutineJob(function, args), timeout)


SOON = 5.0  # seconds; what is done "at once", on a busy machine
LONG = 30.0  # nothing here may take as long: a call that waits for its timeout has failed

# See docs/how-to/servers.md: what libuv does there cannot be changed.
not_with_uvloop = pytest.mark.skipif(find_spec("uvloop") is not None, reason="uvloop is installed.")


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


def script(*parts):
    return "".join(textwrap.dedent(part) for part in parts)
