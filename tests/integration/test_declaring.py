"""brokers["x"].declare(): queues and exchanges that are made while the site runs."""

import asyncio
import pickle
import uuid

import pytest
from django.core.exceptions import SynchronousOnlyOperation

from faststream_django.backends.memory import MemoryBackend
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.conf import BrokerSettings
from faststream_django.conf.topology import QueueSettings
from faststream_django.connection import Connection
from faststream_django.connection.stand_in import StandIn
from faststream_django.exceptions import (
    BrokerRefused,
    BrokerUnavailable,
    DeclarationRefused,
    DeclarationTimeout,
    InvalidDeclaration,
    MessageUnroutable,
)
from faststream_django.messages import Message


class Memory:
    """The embedded broker, asked as the tests ask RabbitMQ."""

    def __init__(self):
        self.url = f"memory://{uuid.uuid4().hex}"
        self.server = MemoryServer.get(self.url)

    def drain(self, queue):
        return self.server.drain(queue)

    def delete_queue(self, *names):
        for name in names:
            self.server.delete_queue(self.server.queue(name))

    def delete_exchange(self, *names):
        """It ends with the test."""


@pytest.fixture(params=["rabbitmq", "rabbitmq without wire", "memory"])
def node(request, monkeypatch):
    if request.param == "memory":
        return Memory()
    if request.param.endswith("wire"):
        monkeypatch.setattr("faststream_django.backends.rabbit.dialing.make_wire", lambda: None)
    return request.getfixturevalue("rabbitmq")


@pytest.fixture
def connection(node, connect):
    if not isinstance(node, Memory):
        yield connect(node.url())
        return
    settings = BrokerSettings(urls=(node.url,), backend="")
    connection = Connection(settings, lambda: MemoryBackend(settings))
    yield connection
    connection.stop()


def test_queues_are_there_when_the_call_returns(connection, node):
    bound = {"tenant.1": {"bind": {"tenants": "1.#"}}, "tenant.2": {"bind": {"tenants": "2.#"}}}

    for _ in range(2):  # again, it changes nothing
        connection.declare(queues=bound, exchanges={"tenants": {"type": "topic"}}, timeout=30)
    asyncio.run(connection.adeclare(["tenant.3"], timeout=30))
    connection.send(Message.encode(b"x", exchange="tenants", routing_key="2.placed"))
    connection.send(Message.encode(b"y", "tenant.3"))

    assert [node.drain(f"tenant.{number}") for number in (1,)] == [[]]
    assert [stored.body for stored in node.drain("tenant.2")] == [b"x"]
    assert [stored.body for stored in node.drain("tenant.3")] == [b"y"]
    node.delete_queue("tenant.1", "tenant.2", "tenant.3")
    node.delete_exchange("tenants")


def test_what_the_broker_refuses_is_told_and_the_rest_is_declared(connection, node):
    connection.declare(["taken"], timeout=30)

    with pytest.raises(DeclarationRefused, match="inequivalent arg 'durable'") as caught:
        connection.declare({"taken": {"durable": False}, "free": {"bind": {"missing": ""}}}, timeout=30)
    connection.send(Message.encode(b"x", "free"))

    refused = caught.value
    assert sorted(refused.reasons) == [
        "binding of queue 'free' to exchange 'missing' by ''",
        "queue 'taken'",
    ]
    assert refused.broker == "default"
    again = pickle.loads(pickle.dumps(refused))
    assert (str(again), again.reasons, again.broker) == (str(refused), refused.reasons, "default")
    node.delete_queue("taken", "free")


def test_passive_declaration_declares_nothing_and_accepts_what_is_there(connection, node):
    connection.declare({"taken": {"arguments": {"x-max-length": 5}}}, timeout=30)

    connection.declare(["taken"], timeout=30, passive=True)
    with pytest.raises(DeclarationRefused) as caught:
        asyncio.run(connection.adeclare(["taken", "missing"], timeout=30, passive=True))
    connection.send(Message.encode(b"x", "taken"))

    assert caught.value.reasons.keys() == {"queue 'missing'"}
    assert caught.value.reasons["queue 'missing'"].startswith("NOT_FOUND - no queue 'missing'")
    with pytest.raises(MessageUnroutable):
        connection.send(Message.encode(b"x", "missing"))
    node.delete_queue("taken")


def test_exchange_type_that_ends_the_connection_is_told(connect, rabbitmq, queue):
    """RabbitMQ 3 closes the whole connection for it, RabbitMQ 4 the channel."""
    connection = connect(rabbitmq.url())
    told = "x-no-such-plugin" + (".*closed the connection" if rabbitmq.version < (4,) else "")

    with pytest.raises(DeclarationRefused, match=told):
        connection.declare(exchanges={"odd": {"type": "x-no-such-plugin"}}, timeout=30)

    connection.send(Message.encode(b"x", queue), timeout=30)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "name a queue or an exchange"),
        ({"queues": {"a%b": {}}}, "queues: 'a%b': the AMQP driver can only declare"),
        ({"queues": {"orders": {"typ": "quorum"}}}, "did you mean 'type'"),
        ({"exchanges": {"events": {"type": "topics"}}}, "did you mean 'topic'"),
        ({"queues": "orders"}, "must be a list of names"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_at_the_call(connect, arguments, text):
    with pytest.raises(InvalidDeclaration, match=text) as caught:
        connect("amqp://127.0.0.1:1/").declare(**arguments)

    assert isinstance(caught.value, ValueError)
    assert "declare() on broker 'default'" in str(caught.value)


def test_declare_is_refused_in_an_event_loop(connect):
    async def main():
        connect("amqp://127.0.0.1:1/").declare(["orders"])

    with pytest.raises(SynchronousOnlyOperation, match="adeclare"):
        asyncio.run(main())


def test_stand_in_of_tests_checks_the_arguments_and_declares_nothing():
    stand_in = StandIn(BrokerSettings(urls=("memory://",), backend=""))

    stand_in.declare(["orders"])
    asyncio.run(stand_in.adeclare(exchanges=["events"]))
    with pytest.raises(InvalidDeclaration):
        stand_in.declare(["a%b"])
    with pytest.raises(InvalidDeclaration):
        asyncio.run(stand_in.adeclare())


def test_nothing_is_declared_without_a_broker(connect, unreachable_port):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/")

    with pytest.raises(BrokerUnavailable, match="nothing was declared") as caught:
        connection.declare(["orders"], timeout=0.5)

    assert caught.value.broker == "default"
    assert not caught.value.maybe_sent


def test_refused_connection_is_told(connect, rabbitmq):
    with pytest.raises(BrokerRefused, match="nothing was declared"):
        connect(rabbitmq.url("guest", "wrong")).declare(["orders"], timeout=30)


def test_missing_answer_is_told(connect, rabbitmq):
    queue = rabbitmq.declare_queue("asleep")
    connection = connect(rabbitmq.url())

    with rabbitmq.suspended(queue), pytest.raises(DeclarationTimeout, match="safe to declare them again"):
        connection.declare([queue], timeout=1)
    connection.declare([queue], timeout=30)

    rabbitmq.delete_queue(queue)


def test_declaration_survives_the_loss_of_the_connection(connect, rabbitmq, proxy):
    """It was not answered: on the next connection it is sent again."""
    connection = connect(proxy.url)
    connection.declare(["kept"], timeout=30)
    proxy.reset()

    connection.declare(["kept", "new"], timeout=30)
    connection.send(Message.encode(b"x", "new"), timeout=30)

    assert len(rabbitmq.drain("new")) == 1
    rabbitmq.delete_queue("kept", "new")


def test_errors_of_a_configured_queue_are_gone_once_it_is_declared(connect, rabbitmq):
    """Its declaration had failed at the start; the reason would be stale."""
    connection = connect(rabbitmq.url(), declare="passive", queues=(QueueSettings(name="late"),))
    connection.start()
    connection.declare(["late"], timeout=30)

    connection.send(Message.encode(b"x", "late"), timeout=30)

    assert len(rabbitmq.drain("late")) == 1
    rabbitmq.delete_queue("late")
