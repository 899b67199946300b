"""``manage.py faststream_worker`` in a process of its own, in a project that a test writes."""

import array
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import textwrap
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

SETTINGS = """
import os, pathlib
PASSWORD_FILE = pathlib.Path("password")
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["faststream_django", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
FASTSTREAM = {
    "default": {
        "URL": os.environ["WORKER_URL"],
        **({"PASSWORD": PASSWORD_FILE.read_text} if PASSWORD_FILE.exists() else {}),
        "QUEUES": {"worker-done": {}},
        "CONNECT_TIMEOUT": 2.0,
        "SHUTDOWN_TIMEOUT": 5.0,
    }
}
LOGGING = {
    "version": 1,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
"""

SUBSCRIBERS = """
import asyncio, os, sys, threading, time
from faststream.rabbit import RabbitRouter

router = RabbitRouter()

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # a whole line, whatever other threads print
    sys.stdout.flush()

@router.subscriber("worker-orders")
@router.publisher("worker-done")
def handle(order: dict):
    say("handling", order["id"], "in", os.getpid())
    time.sleep(order.get("seconds", 0))
    say("handled", order["id"])
    return {"done": order["id"]}

@router.subscriber("worker-async")
async def handle_async(order: dict):
    say("handling", order["id"])
    if order.get("blocking"):
        time.sleep(order["seconds"])
    await asyncio.sleep(order.get("seconds", 0))
    say("handled", order["id"])

@router.subscriber("worker-ends")
def end(how: str):
    if how == "exit":
        sys.exit()
    if how == "hang":
        threading.Thread(target=time.sleep, args=[60], daemon=False).start()
    if how == "kill":
        os.kill(os.getpid(), 9)
    if how == "flood":
        say(("x" * 99 + "\\n") * 10_000)
    say("handled", how)
"""
QUEUES = ("worker-orders", "worker-async", "worker-ends", "worker-done")


def write_project(directory, subscribers, settings=""):
    """Write settings and the app `shop`; `settings` are lines that follow the common ones."""
    (directory / "worker_settings.py").write_text(SETTINGS + textwrap.dedent(settings))
    (directory / "shop").mkdir(exist_ok=True)
    (directory / "shop" / "__init__.py").touch()
    (directory / "shop" / "subscribers.py").write_text(textwrap.dedent(subscribers))


class WorkerProcess:
    """``manage.py faststream_worker`` with its output read line by line, in a session of its own."""

    def __init__(self, directory, url, *arguments, command="faststream_worker", env=None):
        self.lines = []
        self._changed = threading.Condition()
        self.reading = threading.Lock()
        """Whoever holds it keeps the output of the worker from being read."""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "django", command, *map(str, arguments)],
            cwd=directory,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{directory}",
                "PYTHONDONTWRITEBYTECODE": "1",  # a file that is changed within a second is read anew
                "DJANGO_SETTINGS_MODULE": "worker_settings",
                "WORKER_URL": url,
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.process.pid

    def wait_for(self, text, timeout=20, count=1):
        """Wait until so many lines hold the text; return them."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(self._lines_with(text)) >= count, timeout)
            assert found, f"{text!r} did not come: {self.output}"
            return self._lines_with(text)

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """Send the signal; return the exit code."""
        self.send(number)
        return self.wait()

    def time_stop(self, number=signal.SIGTERM):
        """Send the signal; return the exit code and how many seconds it took."""
        began = time.monotonic()
        self.send(number)
        code = self.process.wait(20)
        took = time.monotonic() - began
        self._reader.join(5)
        return code, took

    def wait(self):
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    @property
    def output(self):
        return "".join(self.lines)

    def children(self):
        """Return the pids of the processes that it has started."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def wait_until_output_is_full(self):
        """Wait until as much of it waits to be read as the pipe can hold."""
        waiting = array.array("i", [0])
        deadline = time.monotonic() + 10
        while waiting[0] < 60_000:
            assert time.monotonic() < deadline
            fcntl.ioctl(self.process.stdout, termios.FIONREAD, waiting)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        self.process.stdout.close()

    def _lines_with(self, text):
        return [line for line in self.lines if text in line]

    def _read(self):
        for line in self.process.stdout:
            with self.reading, self._changed:
                self.lines.append(line)
                self._changed.notify_all()


def is_gone(pid):
    """Tell whether a process has ended, whoever has to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
