import threading
import uuid

import pytest

from faststream_django import brokers
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.signals import message_failed, message_published
from tests.recording import recording

ROOMY = {"arguments": {"x-max-length": 100_000}}  # without a consumer it would keep 1,000


@pytest.fixture
def configure(settings):
    """Set FASTSTREAM to the embedded broker with a queue; return the broker."""
    url = f"memory://{uuid.uuid4().hex}"

    def configure(*middlewares, **entry):
        settings.FASTSTREAM = {
            "default": {
                "URL": url,
                "QUEUES": {"orders": ROOMY},
                "OPTIONS": {"middlewares": middlewares} if middlewares else {},
                **entry,
            }
        }
        return MemoryServer.get(url)

    yield configure
    brokers.stop(1)


@pytest.fixture
def server(configure):
    return configure()


@pytest.fixture
def rabbit_queue(settings, rabbitmq):
    """A queue of RabbitMQ, which is the broker meanwhile."""
    name = rabbitmq.declare_queue()
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url()}}
    yield name
    brokers.stop()
    rabbitmq.recover()
    rabbitmq.delete_queue(name)


@pytest.fixture
def mute(settings, counting_port):
    settings.FASTSTREAM = {"default": {"URL": counting_port.url}}
    yield
    brokers.stop(0.1)


@pytest.fixture
def heard():
    """What the receivers of both signals were called with, and in which thread."""
    received = []

    def receive(sender, signal, **arguments):
        arguments["thread"] = threading.current_thread()
        received.append((sender, signal, arguments))

    for each in (message_published, message_failed):
        each.connect(receive)
    yield received
    for each in (message_published, message_failed):
        each.disconnect(receive)


@pytest.fixture
def recorder(settings, on_commit):
    settings.FASTSTREAM = {
        "default": {"URL": "memory://", "TIMEOUT": 5, "ON_COMMIT": on_commit},
        "events": {"URL": "memory://events", "TIMEOUT": 7, "ON_COMMIT": on_commit},
    }
    with recording() as recorder:
        yield recorder


@pytest.fixture
def failed():
    """The bodies of the messages for which message_failed was sent, with their errors."""
    received = []

    def receive(sender, message, error, **kwargs):
        received.append((message.decode(), error))

    message_failed.connect(receive)
    yield received
    message_failed.disconnect(receive)
