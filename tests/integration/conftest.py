import pytest

from faststream_django.backends.rabbit import RabbitBackend
from faststream_django.conf import BrokerSettings
from faststream_django.connection import Connection
from faststream_django.registry import brokers
from tests.nodes import FaultProxy


@pytest.fixture
def connect():
    """Make connections that need no Django settings; each is stopped at the end of the test."""
    connections = []

    def make(*urls, **settings):
        settings = BrokerSettings(urls=urls, backend="", **({"shutdown_timeout": 2.0} | settings))
        connection = Connection(settings, lambda: RabbitBackend(settings))
        connections.append(connection)
        return connection

    brokers.stop()  # what tests of the verbs left open would be counted
    yield make
    for connection in connections:
        connection.stop()


@pytest.fixture
def proxy(rabbitmq):
    """A proxy in front of the node."""
    proxy = FaultProxy(rabbitmq.port)
    yield proxy
    proxy.close()


@pytest.fixture
def queue(rabbitmq):
    """An empty durable queue, deleted at the end."""
    name = rabbitmq.declare_queue()
    yield name
    rabbitmq.recover()
    rabbitmq.delete_queue(name)
