"""More exchanges than there are channels for: nothing is lost, and nothing waits for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection as database
from django.db import transaction
from django.test import override_settings

from faststream_django import publish_on_commit
from faststream_django.exceptions import PublishTimeout
from faststream_django.messages import Message
from faststream_django.registry import brokers
from tests.integration.test_rabbitmq import wait_until

EXCHANGES = 80


@pytest.fixture
def exchanges(rabbitmq, queue):
    """The names of 80 exchanges, each bound to the queue."""
    names = [f"busy-{number}" for number in range(EXCHANGES)]
    with rabbitmq.channel() as channel:
        for name in names:
            channel.exchange_declare(name, "fanout")
            channel.queue_bind(queue, name)
    yield names
    rabbitmq.delete_exchange(*names)


@pytest.fixture
def eight_channels(rabbitmq):
    """Have the node allow eight channels for a connection."""
    rabbitmq.ctl("eval", "application:set_env(rabbit, channel_max, 8).")
    yield
    rabbitmq.ctl("eval", "application:set_env(rabbit, channel_max, 2047).")


def received(rabbitmq, queue):
    return sorted(stored.body.decode() for stored in rabbitmq.drain(queue))


def in_flight(connection):
    return connection._courier._window.count


def test_bulk_to_80_exchanges_is_confirmed(connect, rabbitmq, queue, exchanges):
    connection = connect(rabbitmq.url())

    result = connection.send_many([Message.encode(name, exchange=name) for name in exchanges])

    assert (result.confirmed, result.errors) == (EXCHANGES, {})
    assert received(rabbitmq, queue) == sorted(exchanges)
    assert in_flight(connection) == 0


def test_80_threads_publish_to_80_exchanges(connect, rabbitmq, queue, exchanges):
    connection = connect(rabbitmq.url())
    barrier = threading.Barrier(EXCHANGES)

    def publish(name):
        barrier.wait()
        connection.send(Message.encode(name, exchange=name), timeout=60)

    with ThreadPoolExecutor(EXCHANGES) as pool:
        list(pool.map(publish, exchanges))

    assert received(rabbitmq, queue) == sorted(exchanges)
    assert in_flight(connection) == 0


@pytest.mark.django_db(transaction=True)  # the messages leave after a real commit
def test_80_messages_for_80_exchanges_leave_after_commit(rabbitmq, queue, exchanges):
    with override_settings(FASTSTREAM={"default": {"URL": rabbitmq.url(), "TIMEOUT": 60}}):
        with transaction.atomic():
            for name in exchanges:
                publish_on_commit(name, exchange=name, robust=False)
        brokers.stop()

    assert not database.in_atomic_block
    assert received(rabbitmq, queue) == sorted(exchanges)


@pytest.mark.usefixtures("eight_channels")
def test_80_exchanges_share_the_channels_that_the_broker_allows(connect, rabbitmq, queue, exchanges):
    connection = connect(rabbitmq.url())
    peers = set()

    for _ in range(2):
        result = connection.send_many([Message.encode(name, exchange=name) for name in exchanges], 60)
        assert (result.confirmed, result.errors) == (EXCHANGES, {})
        peers |= {client.peer_port for client in rabbitmq.connections()}

    assert received(rabbitmq, queue) == sorted(exchanges * 2)
    assert len(peers) == 1


@pytest.mark.usefixtures("eight_channels")
def test_message_waits_for_a_channel_and_its_error_names_the_cure(connect, rabbitmq, queue, exchanges):
    connection = connect(rabbitmq.url())
    busy, waiting = exchanges[:7], exchanges[7]

    with ThreadPoolExecutor(7) as pool, rabbitmq.suspended(queue):
        sending = [pool.submit(connection.send, Message.encode(name, exchange=name), 60) for name in busy]
        wait_until(lambda: rabbitmq.unconfirmed() == 7, timeout=30)
        with pytest.raises(PublishTimeout, match="channel_max") as caught:
            connection.send(Message.encode(waiting, exchange=waiting), timeout=1)
    connection.send(Message.encode(waiting, exchange=waiting), timeout=60)

    assert [each.result() for each in sending] == [None] * 7
    assert not caught.value.maybe_sent
    assert received(rabbitmq, queue) == sorted([*busy, waiting])
