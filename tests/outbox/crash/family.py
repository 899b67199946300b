"""The processes of one outbox: their database, their broker's queue, and what a test does to them."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.nodes import PostgreSQLCluster, RabbitMQNode

from .writer import QUEUE, TABLES

ROOT = Path(__file__).parent.parent.parent.parent
BORN = 30.0  # seconds within which a process is there, or gone
RELAY = ("faststream_relay", "--verbosity=0")
_NAME = "crash"
_ROWS = """
INSERT INTO faststream_outbox (
    broker, state, ordering_key, message_id, exchange, routing_key, body, properties, created_at, attempts,
    last_error
)
SELECT
    'default', 0, %s, gen_random_uuid(), '', %s, convert_to(repeat('x', 300), 'UTF8'),
    '{"correlation_id":"c","timestamp":{"~":"datetime","v":"2026-01-01T00:00:00+00:00"}}',
    extract(epoch FROM now()), 0, ''
FROM generate_series(1, %s)
"""


class Family:
    """Writers and relays with a database of their own; for one thread."""

    def __init__(
        self,
        node: RabbitMQNode,
        postgresql: PostgreSQLCluster,
        *,
        queue_arguments: Mapping[str, object] | None = None,
        **outbox: object,
    ) -> None:
        self.node = node
        self._queue_arguments = queue_arguments
        self._postgresql = postgresql
        entry = {"URL": node.url(), "ON_COMMIT": "outbox", "OUTBOX": outbox}
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.outbox.crash.settings",
            "TEST_DATABASE": "postgresql",
            "CRASH_DATABASE": _NAME,
            "CRASH_FASTSTREAM": json.dumps(entry),
        }
        self.ended: dict[int, int] = {}
        """The exit codes of processes, negative for a signal."""
        self._born: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._has_ended = threading.Condition()
        self._arguments: dict[str, tuple[str, ...]] = {}
        self._pids: dict[str, int] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._postgresql.execute(f"CREATE DATABASE {_NAME}")
            stack.callback(self._postgresql.execute, f"DROP DATABASE {_NAME} WITH (FORCE)")
            self.database = stack.enter_context(psycopg.connect(self._postgresql.url(_NAME), autocommit=True))
            self.node.recover()
            self.node.declare_queue(QUEUE, arguments=self._queue_arguments)
            stack.callback(self.node.delete_queue, QUEUE)
            stack.callback(self.node.recover)
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
            # What the processes say.
            self.log = stack.enter_context(log.open("w+"))
            self._nursery = self._open_nursery()
            stack.callback(self._close_nursery)
            self.start("migrate", "migrate", "--verbosity=0")
            self.wait("migrate")
            for statement in TABLES:
                self.database.execute(statement)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    # Processes

    def start(self, name: str, *arguments: str) -> None:
        """Start a process, or start it again."""
        self._arguments[name] = arguments = arguments or self._arguments[name]
        self._nursery.stdin.write(f"{json.dumps(arguments)}\n")
        self._nursery.stdin.flush()
        self._pids[name] = self._born.get(timeout=BORN)

    def send(self, name: str, number: int) -> None:
        os.kill(self._pids[name], number)

    def kill(self, name: str) -> None:
        """End a process as a power failure does."""
        self.send(name, signal.SIGKILL)
        self.wait(name, -signal.SIGKILL)

    def end(self, name: str) -> None:
        """Kill it, unless it has ended somehow."""
        with contextlib.suppress(ProcessLookupError):
            self.send(name, signal.SIGKILL)
        pid = self._pids.pop(name)
        with self._has_ended:
            self._has_ended.wait_for(lambda: pid in self.ended, BORN)

    def wait(self, name: str, status: int = 0, timeout: float = BORN) -> None:
        """Wait until it has ended, with this exit code."""
        pid = self._pids.pop(name)
        with self._has_ended:
            if not self._has_ended.wait_for(lambda: pid in self.ended, timeout):
                raise TimeoutError(f"{name} did not end in {timeout} s.\n{self.last_words()}")
        if self.ended[pid] != status:
            raise RuntimeError(f"{name} ended with {self.ended[pid]}.\n{self.last_words()}")

    def refuse_deaths(self) -> None:
        """Raise RuntimeError if a process has ended by itself."""
        for name, pid in self._pids.items():
            if pid in self.ended:
                raise RuntimeError(f"{name} ended with {self.ended[pid]}.\n{self.last_words()}")

    def pid(self, name: str) -> int:
        return self._pids[name]

    def leader(self) -> str:
        """Return the name of the relay that holds the lease; nothing if it is gone."""
        holder = self.ask("SELECT holder FROM faststream_outbox_lease WHERE expires_at > 0")
        pid = int(str(holder).split(":")[-2]) if holder else 0
        return next((name for name, each in self._pids.items() if each == pid), "")

    def last_words(self) -> str:
        self.log.seek(0)
        return "\n".join(self.log.read().splitlines()[-30:])

    # The database

    def ask(self, sql: str) -> Any:
        """Return the first value of the first row."""
        found = self.database.execute(sql).fetchone()  # type: ignore[call-overload]
        return found and found[0]

    def listening(self) -> int:
        """Count the relays that wait for notifications."""
        count: int = self.ask(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN %'"
        )
        return count

    def left(self) -> int:
        """Count the rows that wait, or are dead."""
        count: int = self.ask("SELECT count(*) FROM faststream_outbox")
        return count

    def store(self, count: int, key: str = "") -> None:
        """Insert so many messages that are the relay's, and wake it."""
        self.database.execute(_ROWS, [key, QUEUE, count])
        self.database.execute("SELECT pg_notify('faststream_outbox', 'default')")

    def terminate_connections(self, count: int) -> int:
        """End so many of the connections to the database, but not ours."""
        victims = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            f"AND backend_type = 'client backend' ORDER BY random() LIMIT {count}"
        )
        terminated: int = self.ask(f"SELECT count(pg_terminate_backend(pid)) FROM ({victims}) victims")
        return terminated

    # The nursery

    def _open_nursery(self) -> subprocess.Popen[str]:
        nursery = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.outbox.crash.nursery"],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            start_new_session=True,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, args=(nursery.stdout,), daemon=True)
        self._listener.start()
        return nursery

    def _listen(self, lines: Iterator[str]) -> None:
        for line in lines:
            what, pid, *status = line.split()
            if what == "started":
                self._born.put(int(pid))
            else:
                with self._has_ended:
                    self.ended[int(pid)] = int(status[0])
                    self._has_ended.notify_all()

    def _close_nursery(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._nursery.pid, signal.SIGKILL)
        self._listener.join()
        # Closes the pipes, and waits for the end.
        with self._nursery:
            pass


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> float:
    """Poll until a condition holds; return the seconds that this took. Raise TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + timeout:
            raise TimeoutError(f"{what}: not in {timeout:g} s")
        time.sleep(0.01)
    return time.monotonic() - began
