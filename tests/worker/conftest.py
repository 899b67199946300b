import importlib
import json
import sys
import textwrap

import pytest

from faststream_django import brokers
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.loop import loop_thread
from faststream_django.worker.in_process import consume_in_process
from tests.worker.apps import names
from tests.worker.commands import QUEUES, SUBSCRIBERS, WorkerProcess, write_project
from tests.worker.consumers import Handled, RunningConsumer
from tests.worker.sites import Embedded, Rabbit


@pytest.fixture
def make_app(tmp_path, monkeypatch, settings):
    """Install an app with this subscribers.py; return a function that imports the module."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source):
        name = f"app_{next(names)}"
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").touch()
        if source is not None:
            (package / "subscribers.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, name]
        return lambda: importlib.import_module(f"{name}.subscribers")

    yield make
    for name in [name for name in sys.modules if name.startswith("app_")]:
        del sys.modules[name]


@pytest.fixture
def memory(settings, monkeypatch):
    """An embedded broker of its own, whose subscribers run in this process."""
    monkeypatch.setattr(MemoryServer, "on_connect", None)
    url = f"memory://subscribers-{next(names)}"
    settings.FASTSTREAM = {"default": {"URL": url}}
    consume_in_process()
    yield MemoryServer.get(url)
    brokers.stop()
    # What a handler has left behind, such as another attempt, would reach the broker of the next test.
    loop_thread.stop()


@pytest.fixture
def consume():
    """Start consumers that are stopped at the end."""
    started = []

    def start(*routers, wait=True, **entry):
        running = RunningConsumer(routers, **entry)
        started.append(running)
        return running.start() if wait else running

    yield start
    for running in started:
        running.close()


@pytest.fixture
def handled():
    handled = Handled()
    yield handled
    handled.go_on.set()


@pytest.fixture
def queue(rabbitmq):
    """The name of a queue that does not exist yet, deleted at the end."""
    name = f"consumed-{next(names)}"
    yield name
    rabbitmq.recover()
    rabbitmq.delete_queue(name)


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def site(request, settings, monkeypatch):
    """A site whose subscribers run, on the embedded broker and on RabbitMQ."""
    monkeypatch.setattr(MemoryServer, "on_connect", None)
    if request.param == "memory":
        site = Embedded(settings, f"memory://sites-{next(names)}")
    else:
        site = Rabbit(settings, request.getfixturevalue("rabbitmq"))
    site.configure()
    yield site
    site.stop()
    brokers.stop()


@pytest.fixture
def start_worker(tmp_path):
    """Start faststream_worker in the project in tmp_path, for which a test may write other files."""
    write_project(tmp_path, SUBSCRIBERS)
    workers = []

    def start(url, *arguments, **options):
        workers.append(WorkerProcess(tmp_path, url, *arguments, **options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


@pytest.fixture
def queues(rabbitmq):
    """The queues of the project of start_worker, deleted at the end."""
    yield QUEUES
    rabbitmq.recover()
    rabbitmq.delete_queue(*QUEUES)


@pytest.fixture
def order(rabbitmq, queues):
    """Publish an order for a handler of the project of start_worker."""

    def order(number, seconds=0, queue="worker-orders", **more):
        body = json.dumps({"id": number, "seconds": seconds, **more}).encode()
        rabbitmq.publish(body, queue, content_type="application/json", message_id=f"order-{number}")

    return order
