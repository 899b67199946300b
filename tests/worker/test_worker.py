import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cret-marker"

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
import pathlib, time
from faststream.rabbit import RabbitRouter

router = RabbitRouter()

@router.subscriber("worker-orders")
@router.publisher("worker-done")
def handle(order: dict):
    print("handling", flush=True)
    time.sleep(order.get("seconds", 0))
    return {"done": order["id"]}
"""


class WorkerProcess:
    """``manage.py faststream_worker`` with its output read line by line."""

    def __init__(self, directory, url, *arguments):
        self.lines = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "django", "faststream_worker", *arguments],
            cwd=directory,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{directory}",
                "DJANGO_SETTINGS_MODULE": "worker_settings",
                "WORKER_URL": url,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text, timeout=20):
        with self._changed:
            found = self._changed.wait_for(lambda: any(text in line for line in self.lines), timeout)
        assert found, f"{text!r} did not come: {self.output}"

    def stop(self, number=signal.SIGTERM):
        """Send the signal; return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    @property
    def output(self):
        return "".join(self.lines)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        self.process.stdout.close()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()


@pytest.fixture
def start_worker(tmp_path):
    (tmp_path / "worker_settings.py").write_text(SETTINGS)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "subscribers.py").write_text(textwrap.dedent(SUBSCRIBERS))
    workers = []

    def start(url, *arguments):
        workers.append(WorkerProcess(tmp_path, url, *arguments))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


@pytest.fixture
def queues(rabbitmq):
    names = ("worker-orders", "worker-done")
    yield names
    rabbitmq.delete_queue(*names)


# Mistakes


def test_unknown_alias_is_an_error_of_the_command():
    with pytest.raises(CommandError, match="'nowhere'"):
        call_command("faststream_worker", broker="nowhere")


def test_embedded_broker_needs_no_worker(settings):
    settings.FASTSTREAM = {"default": {"URL": "memory://"}}

    with pytest.raises(CommandError, match="no worker is needed"):
        call_command("faststream_worker")


def test_project_without_subscribers_is_an_error_of_the_command(settings):
    settings.FASTSTREAM = {"default": {"URL": "amqp://guest:guest@localhost/"}}

    with pytest.raises(CommandError, match=r"nothing to consume: no subscribers\.py"):
        call_command("faststream_worker")


# Waiting for the broker


def test_worker_waits_for_a_broker_that_is_down_until_it_is_told_to_stop(start_worker, unreachable_port):
    worker = start_worker(f"amqp://me:{PASSWORD}@127.0.0.1:{unreachable_port}/")
    worker.wait_for("state=unavailable")

    assert worker.stop() == 0
    assert worker.output.count("state=unavailable") == 1
    assert PASSWORD not in worker.output


def test_worker_waits_for_a_broker_that_does_not_answer(start_worker, counting_port):
    worker = start_worker(counting_port.url)
    worker.wait_for("within CONNECT_TIMEOUT")

    assert worker.stop(signal.SIGINT) == 0


# On RabbitMQ


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_handles_messages_until_a_signal(start_worker, rabbitmq, queues, number):
    worker = start_worker(rabbitmq.url())
    worker.wait_for("Consuming from broker 'default': worker-orders")

    rabbitmq.publish(b'{"id": 1}', "worker-orders", content_type="application/json")
    worker.wait_for("handling")

    assert worker.stop(number) == 0
    assert [message.body for message in rabbitmq.drain("worker-done")] == [b'{"done":1}']
    assert rabbitmq.count("worker-orders") == 0
    assert "guest:guest" not in worker.output


def test_worker_finishes_what_it_has_begun(start_worker, rabbitmq, queues):
    worker = start_worker(rabbitmq.url())
    worker.wait_for("Consuming")

    rabbitmq.publish(b'{"id": 1, "seconds": 0.5}', "worker-orders", content_type="application/json")
    worker.wait_for("handling")

    assert worker.stop() == 0
    assert len(rabbitmq.drain("worker-done")) == 1
    assert rabbitmq.count("worker-orders") == 0


def test_worker_begins_when_the_broker_comes(start_worker, rabbitmq, queues):
    rabbitmq.stop()
    worker = start_worker(rabbitmq.url())
    worker.wait_for("state=unavailable")

    rabbitmq.start()

    worker.wait_for("Consuming", timeout=30)
    assert worker.stop() == 0


def test_refused_password_ends_the_worker_and_is_not_shown(start_worker, rabbitmq):
    worker = start_worker(rabbitmq.url(password=PASSWORD))

    assert worker.wait() == 1
    assert "refused the credentials" in worker.output
    assert PASSWORD not in worker.output


def test_queue_with_other_arguments_ends_the_worker(start_worker, rabbitmq, queues):
    rabbitmq.declare_queue("worker-orders", arguments={"x-max-length": 1})
    rabbitmq.declare_queue("worker-done")

    worker = start_worker(rabbitmq.url())

    assert worker.wait() == 1
    assert "PRECONDITION_FAILED" in worker.output


def test_worker_logs_in_anew_with_the_password_of_the_moment(rabbitmq, queues, start_worker, tmp_path):
    """As a token is; the driver's own connection would go on with the first one for ever."""
    orders, _ = queues
    rabbitmq.ctl("add_user", "rotating", "first")
    rabbitmq.ctl("set_permissions", "rotating", ".*", ".*", ".*")
    try:
        (tmp_path / "password").write_text("first")
        worker = start_worker(rabbitmq.url("rotating").replace(":guest@", "@"))
        worker.wait_for("Consuming from")
        rabbitmq.ctl("change_password", "rotating", "second")
        (tmp_path / "password").write_text("second")
        rabbitmq.ctl("close_all_user_connections", "rotating", "rotated")

        rabbitmq.publish(b'{"id": 1}', orders, content_type="application/json")
        worker.wait_for("handling", timeout=60)

        assert worker.stop() == 0
    finally:
        rabbitmq.ctl("delete_user", "rotating")
