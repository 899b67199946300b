"""Workers of one database and one queue, and what a test does to them."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psycopg

from faststream_django.worker.retrying import delays

ROOT = Path(__file__).parents[3]
SOON = 60.0
QUEUE = "inbox-crash"
_NAME = "inbox_crash"
_BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "ORDER BY random() LIMIT 3"
)


class Workers:
    """Two processes that handle the same messages; for one thread."""

    def __init__(self, node, postgresql, *, seed):
        self.node = node
        self.struck = Counter()
        self._postgresql = postgresql
        self._dice = random.Random(seed)
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.inbox.crash.settings",
            "TEST_DATABASE": "postgresql",
            "CRASH_DATABASE": _NAME,
            "CRASH_URL": node.url(),
        }
        self._processes = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._postgresql.execute(f"CREATE DATABASE {_NAME}")
            stack.callback(self._postgresql.execute, f"DROP DATABASE {_NAME} WITH (FORCE)")
            self._database = stack.enter_context(
                psycopg.connect(self._postgresql.url(_NAME), autocommit=True)
            )
            self.node.declare_queue(QUEUE)
            waits = [f"{QUEUE}.retry.{each}" for each in delays((0.05, 0.2), 1000)]
            stack.callback(self.node.delete_queue, QUEUE, *waits)
            self._log = stack.enter_context(tempfile.TemporaryFile("w+"))
            stack.callback(self._kill_all)
            migrated = self._start("migrate", "--verbosity=0")
            assert migrated.wait(SOON) == 0, self.last_words()
            self._database.execute("CREATE TABLE effects (message_id text, pid int)")
            self._processes = [self._start("faststream_worker") for _ in range(2)]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info):
        self._stack.close()

    @property
    def effects(self):
        """How often each message had its effect."""
        return Counter(row[0] for row in self._database.execute("SELECT message_id FROM effects"))

    def publish(self, message_ids):
        import pika

        with self.node.channel() as channel:
            channel.confirm_delivery()
            for message_id in message_ids:
                properties = pika.BasicProperties(
                    message_id=message_id, content_type="application/json", delivery_mode=2
                )
                channel.basic_publish("", QUEUE, b"1", properties, mandatory=True)

    def crash(self, *, messages, copies, strikes, broker_kills=0):
        """Have so many messages handled while things fail; return how often each had its effect.

        They are published in portions, so that there is always something to handle when something fails.
        """
        ids = [f"m-{number}" for number in range(messages)]
        kills = set(self._dice.sample(range(1, strikes + 1), broker_kills))
        for strike in range(1, strikes + 1):
            portion = ids[messages * (strike - 1) // strikes : messages * strike // strikes]
            enough = len(self.effects) + len(portion) // 6
            self.publish(portion * copies)
            self.wait_until(lambda enough=enough: len(self.effects) > enough, "a portion")
            self.strike()
            if strike in kills:
                self.node.kill()
                self.node.start()
                self.struck["broker killed"] += 1
        self.wait_until(lambda: len(self.effects) == messages, "the last message")
        self.wait_until(lambda: self.node.count(QUEUE) == 0, "the last copy")
        self.stop()
        assert self.effects.keys() == set(ids)
        return self.effects

    def strike(self):
        """Kill a worker, which starts again, or terminate connections of the database."""
        if self._dice.random() < 0.7:
            index = self._dice.randrange(len(self._processes))
            self._processes[index].kill()
            self._processes[index].wait(SOON)
            self._processes[index] = self._start("faststream_worker")
            self.struck["killed"] += 1
        else:
            for (pid,) in self._database.execute(_BACKENDS).fetchall():
                self._database.execute("SELECT pg_terminate_backend(%s)", [pid])
                self.struck["connections terminated"] += 1

    def wait_until(self, condition, what):
        deadline = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come\n{self.last_words()}"
            for process in self._processes:
                assert process.poll() is None, self.last_words()
            time.sleep(0.02)

    def stop(self):
        """End the workers, which finish what they handle."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            # One that was started a moment ago does not listen to signals yet.
            assert process.wait(SOON) in {0, -signal.SIGTERM}, self.last_words()

    def last_words(self):
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-40:])

    def _start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "django", *arguments],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def _kill_all(self):
        for process in self._processes:
            process.kill()
            process.wait(SOON)
