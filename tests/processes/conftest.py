import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import pytest

from tests.nodes import free_port

ROOT = Path(__file__).parent.parent.parent
# Seconds, generous: other things run beside the tests. An exit that waits in vain takes SHUTDOWN_TIMEOUT, 10.
ENDS = 8.0
# The first publish of a process, or what is done at once.
FIRST = 5.0


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.processes)


@pytest.fixture
def queue(rabbitmq):
    """An empty durable queue, deleted at the end."""
    name = rabbitmq.declare_queue()
    yield name
    rabbitmq.recover()
    rabbitmq.delete_queue(name)


@pytest.fixture
def start(tmp_path):
    """Start a program with tests.processes.settings and warnings as errors; return a Program."""
    programs = []

    def start(*command, env=None):
        program = Program(command, tmp_path, f"program{len(programs)}", env or {})
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.kill()


@pytest.fixture
def start_script(start, tmp_path):
    """Start Python source code; return a Program."""

    def start_script(source, *arguments, env=None):
        path = tmp_path / f"script{len(list(tmp_path.glob('script*.py')))}.py"
        path.write_text(textwrap.dedent(source))
        return start(sys.executable, "-X", "faulthandler", path, *arguments, env=env)

    return start_script


@pytest.fixture
def serve(start):
    """Start a web server, wait until it answers, and return it.

    Gunicorn and uWSGI lose a SIGTERM that comes while a worker boots, so a test that ends one says how many
    workers there are: https://github.com/benoitc/gunicorn/issues/1910. Each of them says "booted".
    """

    def serve(*command, workers=0, env=None):
        port = free_port()
        server = start(*(str(part).replace("PORT", str(port)) for part in command), env=env)
        server.address = f"http://127.0.0.1:{port}"
        server.wait_until(lambda: server.booted_workers() >= workers)
        server.wait_until(server.answers)
        return server

    return serve


class Program:
    """A program under test: its output in files, its stdin a pipe."""

    address = ""

    def __init__(self, command, directory, name, env):
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"
        self.started = time.monotonic()
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "PYTHONWARNINGS": "error",
                    "PYTHONUNBUFFERED": "1",
                    "DJANGO_SETTINGS_MODULE": "tests.processes.settings",
                    "TEST_DATABASE": "sqlite",
                    **env,
                },
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
                text=True,
            )

    @property
    def pid(self):
        return self._process.pid

    @property
    def out(self):
        return self._out.read_text()

    @property
    def err(self):
        return self._err.read_text()

    @property
    def complaints(self):
        """Lines that no program prints when all is well."""
        signs = ("Traceback", "Exception", "Warning", "never retrieved", "was destroyed", "ERROR", "CRITICAL")
        # Gunicorn's workers leave their listening socket to the interpreter.
        own = f"laddr=('127.0.0.1', {self.address.rpartition(':')[2]})"
        lines = [line for line in (self.out + self.err).splitlines() if own not in line]
        return [line for line in lines if any(sign in line for sign in signs)]

    def wait_until(self, condition, timeout=20.0):
        """Poll what other processes do. Raise TimeoutError with what the program said."""
        deadline = time.monotonic() + timeout
        while not (answer := condition()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError(
                    f"exit code {self._process.poll()}\n{self.out[-2000:]}\n{self.err[-4000:]}"
                )
            time.sleep(0.02)
        return answer

    def said(self, prefix, timeout=20.0):
        """Wait for a whole line of stdout; return the rest of it."""

        def find():
            lines = [line for line in self.out.splitlines(keepends=True) if line.startswith(prefix)]
            return lines if lines and lines[0].endswith("\n") else None

        return self.wait_until(find, timeout)[0].removeprefix(prefix).strip()

    def all_said(self, prefix):
        return [line.removeprefix(prefix) for line in self.out.splitlines() if line.startswith(prefix)]

    def tell(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=20.0):
        """Return the exit code, negative for a signal."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)  # faulthandler says where the threads are
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3)
            raise TimeoutError(
                f"It did not end in {timeout} s.\n{self.out[-2000:]}\n{self.err[-4000:]}"
            ) from None

    def terminate(self, timeout=20.0):
        """Send SIGTERM; return the exit code and how long it took."""
        began = time.monotonic()
        self.send(signal.SIGTERM)
        return self.wait(timeout), time.monotonic() - began

    def get(self, path, timeout=15.0):
        """Return the JSON answer of a server."""
        with urllib.request.urlopen(f"{self.address}{path}", timeout=timeout) as response:
            return json.load(response)

    def booted_workers(self):
        return sum(line.startswith("booted") for line in (self.out + self.err).splitlines())

    def answers(self):
        try:
            return self.get("/pid/", timeout=1)
        except (OSError, TimeoutError):
            return None

    def wait_until_gone(self, connected_pids, timeout=20.0):
        """Wait until RabbitMQ has noticed that the process is gone."""
        deadline = time.monotonic() + timeout
        while self.pid in connected_pids():
            assert time.monotonic() < deadline, "The connection is still there."

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()


@pytest.fixture
def connected_pids(rabbitmq):
    """Return which processes, but this one, have a connection."""

    def connected_pids():
        names = [each.client_properties.get("connection_name", "") for each in rabbitmq.connections()]
        pids = {int(name.partition("pid=")[2].split()[0]) for name in names if "pid=" in name}
        return pids - {os.getpid()}

    return connected_pids


@pytest.fixture
def lost_connections(rabbitmq):
    """Return what RabbitMQ logged about connections of these processes that ended without a goodbye."""

    def lost_connections(pids):
        return [
            line
            for log in (rabbitmq.directory / "log").glob("*.log")
            for line in log.read_text(errors="replace").splitlines()
            if "closing AMQP connection" in line and "[info]" not in line
            if any(f"pid={pid} " in line for pid in pids)
        ]

    return lost_connections
