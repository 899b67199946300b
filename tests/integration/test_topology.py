"""Declarations: quick over a slow line, and none in the way of anything else."""

import pytest

from faststream_django.conf.topology import Binding, ExchangeSettings, QueueSettings
from faststream_django.exceptions import MessageUnroutable, PublishTimeout
from faststream_django.messages import Message


@pytest.fixture(params=["wire", "no wire"])
def with_and_without_wire(request, monkeypatch):
    if request.param == "no wire":
        monkeypatch.setattr("faststream_django.backends.rabbit.dialing.make_wire", lambda: None)


def errors_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_50_bound_queues_are_declared_over_a_slow_line(connect, rabbitmq, proxy):
    """One round trip for each declaration would take 20 seconds."""
    names = [f"far-{number}" for number in range(50)]
    proxy.delay = 0.1
    connection = connect(
        proxy.url,
        connect_timeout=10.0,
        exchanges=(ExchangeSettings(name="far", type="fanout"),),
        queues=tuple(QueueSettings(name=name, bindings=(Binding(source="far"),)) for name in names),
    )

    connection.send(Message.encode(b"x", names[-1]), timeout=30)
    connection.send(Message.encode(b"y", exchange="far"), timeout=30)

    assert [stored.body for stored in rabbitmq.drain(names[-1])] == [b"x", b"y"]
    assert all(rabbitmq.count(name) for name in names[:-1])
    rabbitmq.delete_queue(*names)
    rabbitmq.delete_exchange("far")


@pytest.mark.usefixtures("with_and_without_wire")
def test_declaration_that_ends_the_connection_is_made_once(connect, rabbitmq, caplog):
    """RabbitMQ closes the whole connection (503) for the type of a plugin that it does not have."""
    connection = connect(
        rabbitmq.url(),
        exchanges=(
            ExchangeSettings(name="first", type="fanout"),
            ExchangeSettings(name="odd", type="x-no-such-plugin"),
        ),
        queues=(QueueSettings(name="fine", bindings=(Binding(source="first"),)),),
    )

    connection.send(Message.encode(b"x", "fine"))
    with pytest.raises(MessageUnroutable, match=r"Declaring 'odd' had failed.*x-no-such-plugin"):
        connection.send(Message.encode(b"x", exchange="odd"))
    rabbitmq.close_all_connections()
    connection.send(Message.encode(b"y", exchange="first"))

    assert [stored.body for stored in rabbitmq.drain("fine")] == [b"x", b"y"]
    [logged] = errors_in(caplog)
    assert "exchange 'odd'" in logged
    assert "x-no-such-plugin" in logged
    rabbitmq.delete_queue("fine")
    rabbitmq.delete_exchange("first")


@pytest.mark.usefixtures("with_and_without_wire")
def test_what_the_driver_refuses_is_the_error_of_its_entry_alone(connect, rabbitmq, caplog):
    connection = connect(
        rabbitmq.url(),
        exchanges=(ExchangeSettings(name="x" * 128), ExchangeSettings(name="größe")),
        queues=(
            QueueSettings(name="очередь"),
            QueueSettings(name="a%b"),
            QueueSettings(name="odd", arguments={"x": object()}),
            QueueSettings(name="fine", arguments={"x-note": b"bytes"}),
        ),
    )

    connection.send(Message.encode(b"x", "fine"))
    with pytest.raises(MessageUnroutable, match="Declaring 'a%b' had failed: ValueError"):
        connection.send(Message.encode(b"x", "a%b"))

    assert [stored.body for stored in rabbitmq.drain("fine")] == [b"x"]
    assert len(errors_in(caplog)) == 5
    rabbitmq.delete_queue("fine")


@pytest.mark.usefixtures("with_and_without_wire")
def test_binding_to_a_missing_exchange_is_told_for_both_ends(connect, rabbitmq, caplog):
    connection = connect(
        rabbitmq.url(),
        queues=(
            QueueSettings(name="bound", bindings=(Binding(source="missing"),)),
            QueueSettings(name="fine"),
        ),
    )

    connection.send(Message.encode(b"x", "bound"))
    connection.send(Message.encode(b"x", "fine"))
    with pytest.raises(MessageUnroutable, match="binding of queue 'bound' to exchange 'missing'"):
        connection.send(Message.encode(b"x", exchange="missing"))

    assert len(errors_in(caplog)) == 1
    rabbitmq.delete_queue("bound", "fine")


def test_declaration_without_an_answer_holds_up_nothing_for_long(connect, rabbitmq, queue, caplog):
    """RabbitMQ asks the queue itself whether it is the same."""
    stuck = rabbitmq.declare_queue("stuck")
    connection = connect(rabbitmq.url(), connect_timeout=1.0, queues=(QueueSettings(name=stuck),))

    with rabbitmq.suspended(stuck):
        connection.send(Message.encode(b"x", queue), timeout=30)
    connection.send(Message.encode(b"y", stuck), timeout=30)

    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x"]
    assert "declaring takes longer than 1s" in caplog.text
    rabbitmq.delete_queue(stuck)


def test_message_waits_for_declarations_within_its_own_time(connect, rabbitmq):
    queue = rabbitmq.declare_queue("slow")
    connection = connect(rabbitmq.url(), connect_timeout=60.0, queues=(QueueSettings(name=queue),))

    with rabbitmq.suspended(queue):
        with pytest.raises(PublishTimeout, match="still being declared") as caught:
            connection.send(Message.encode(b"x", queue), timeout=1)
        assert connection.is_connected
    connection.send(Message.encode(b"y", queue), timeout=30)

    assert not caught.value.maybe_sent
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"y"]
    rabbitmq.delete_queue(queue)
