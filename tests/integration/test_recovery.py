"""Faults end: the connection heals by itself, and an outage does not take the site along."""

import logging
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faststream_django.backends.rabbit import exchange_publisher
from faststream_django.exceptions import BrokerUnavailable, MessageRejected, PublishError, PublishTimeout
from faststream_django.messages import Message
from tests.integration.test_rabbitmq import wait_until


def seconds_until_published(connection, message):
    """Publish until it works; return how long that took."""
    started = time.monotonic()
    while True:
        try:
            connection.send(message)
        except PublishError:
            assert time.monotonic() - started < 20
            time.sleep(0.01)  # what a site that is asked does
        else:
            return time.monotonic() - started


def test_publish_fails_fast_in_an_outage_that_is_older_than_its_timeout(connect, unreachable_port):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/", timeout=1.0)
    message = Message.encode(b"x", "orders")
    with pytest.raises(BrokerUnavailable):
        connection.send(message)

    times = []
    for _ in range(200):
        started = time.monotonic()
        with pytest.raises(
            BrokerUnavailable, match=r"not connected for .* (Connect call failed|Connection refused)"
        ):
            connection.send(message)
        times.append(time.monotonic() - started)

    assert statistics.median(times) < 0.1


def test_bulk_fails_fast_in_an_outage_too(connect, unreachable_port):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/", timeout=1.0)
    with pytest.raises(BrokerUnavailable):
        connection.send(Message.encode(b"x", "orders"))

    started = time.monotonic()
    result = connection.send_many([Message.encode(b"x", "orders")] * 5)

    assert time.monotonic() - started < 0.9
    assert {type(error) for error in result.errors.values()} == {BrokerUnavailable}


@pytest.mark.parametrize("fault", ["refused", "restarted", "reset", "closed by the broker"])
def test_publish_works_again_within_a_second_of_the_brokers_return(connect, rabbitmq, queue, proxy, fault):
    connection = connect(proxy.url, timeout=0.5)
    message = Message.encode(b"x", queue)
    connection.send(message)

    if fault == "refused":
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(PublishError):
                connection.send(message)
        proxy.listen()
    elif fault == "restarted":
        rabbitmq.kill()
        with pytest.raises(PublishError):
            connection.send(message)
        rabbitmq.start()
    elif fault == "reset":
        proxy.reset()
    else:
        rabbitmq.close_all_connections()

    assert seconds_until_published(connection, message) <= 1.0


def test_dead_link_is_noticed_after_two_unanswered_deadlines(connect, queue, proxy):
    """Nothing but silence tells that a router lost its table; the heartbeat would need half a minute."""
    connection = connect(proxy.url, timeout=1)
    message = Message.encode(b"x", queue)
    connection.send(message)
    proxy.black_hole()
    proxy.forget()

    for _ in range(2):
        with pytest.raises(PublishTimeout):
            connection.send(message)

    assert seconds_until_published(connection, message) <= 1.0


def test_slow_answers_do_not_end_the_session(connect, queue, proxy, rabbitmq):
    connection = connect(proxy.url, timeout=0.5)
    message = Message.encode(b"x", queue)
    connection.send(message)
    before = rabbitmq.connections()[0].peer_port

    for _ in range(3):
        proxy.black_hole()
        with pytest.raises(PublishTimeout):
            connection.send(message)
        proxy.heal()
        connection.send(message)

    assert [client.peer_port for client in rabbitmq.connections()] == [before]


def test_timeouts_that_are_too_short_for_the_link_harm_no_neighbour(connect, queue, proxy):
    connection = connect(proxy.url)
    connection.send(Message.encode(b"x", queue))
    proxy.delay = 0.5

    with ThreadPoolExecutor(3) as threads:
        neighbours = [threads.submit(connection.send, Message.encode(b"x", queue), 20) for _ in range(3)]
        wait_until(lambda: connection._courier._window.count == 3)
        for _ in range(2):
            with pytest.raises(PublishTimeout):
                connection.send(Message.encode(b"x", queue), timeout=0.05)
        outcomes = [neighbour.exception() for neighbour in neighbours]

    assert outcomes == [None] * 3


def test_alarm_does_not_end_the_session(connect, queue, rabbitmq):
    connection = connect(rabbitmq.url(), timeout=0.5)
    message = Message.encode(b"x", queue)
    connection.send(message)
    before = rabbitmq.connections()[0].peer_port

    with rabbitmq.memory_alarm():
        for _ in range(4):
            with pytest.raises(PublishError):
                connection.send(message)

    assert seconds_until_published(connection, message) <= 0.5
    assert [client.peer_port for client in rabbitmq.connections()] == [before]


def test_run_of_nacks_gets_a_fresh_channel(connect, rabbitmq, monkeypatch):
    monkeypatch.setattr(exchange_publisher, "FRESH_CHANNEL_INTERVAL", 0.0)
    full = rabbitmq.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    connection = connect(rabbitmq.url())
    message = Message.encode(b"x", full)
    connection.send(message)
    channel = connection._courier._supervisor._session._publishers[""]._channel

    for _ in range(4):
        with pytest.raises(MessageRejected):
            connection.send(message)
    rabbitmq.drain(full)
    connection.send(message)

    assert connection._courier._supervisor._session._publishers[""]._channel is not channel
    assert channel.is_closed
    assert len(rabbitmq.connections()) == 1
    rabbitmq.delete_queue(full)


def test_messages_that_were_never_sent_travel_on_the_next_connection(connect, rabbitmq, queue, proxy):
    """They waited for the end of an alarm when their connection broke."""
    connection = connect(proxy.url, timeout=20)
    connection.send(Message.encode(b"x", queue))
    bodies = [b"%d" % number for number in range(10)]

    with ThreadPoolExecutor(1) as thread:
        with rabbitmq.memory_alarm():
            with pytest.raises(PublishTimeout):  # RabbitMQ says that it is blocked when it gets a message
                connection.send(Message.encode(b"x", queue), timeout=0.3)
            session = connection._courier._supervisor.current
            wait_until(lambda: session.is_blocked)
            bulk = thread.submit(connection.send_many, [Message.encode(body, queue) for body in bodies])
            wait_until(lambda: connection._courier._window.count == 10)
            proxy.reset()
        result = bulk.result()

    assert session.closed.done()
    assert (result.confirmed, result.errors) == (10, {})
    assert [message.body for message in rabbitmq.drain(queue) if message.body != b"x"] == bodies


MEGABYTE = bytes(1_000_000)


def test_messages_wait_where_they_can_be_withdrawn_while_the_broker_does_not_read(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url(), timeout=1)
    connection.send(Message.encode(b"x", queue))

    def send(_):
        with pytest.raises(PublishError) as raised:
            connection.send(Message.encode(MEGABYTE, queue))
        return raised.value

    rabbitmq.pause()
    with ThreadPoolExecutor(30) as pool:
        errors = list(pool.map(send, range(30)))
    rabbitmq.resume()

    sent = {error.message_id for error in errors if error.maybe_sent}
    assert 0 < len(sent) < 30
    wait_until(lambda: rabbitmq.count(queue) == 1 + len(sent), timeout=20)
    assert sent <= {message.properties.message_id for message in rabbitmq.drain(queue)}


def test_publishing_goes_on_when_the_broker_reads_again(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url(), timeout=20)
    connection.send(Message.encode(b"x", queue))
    wire = connection._courier._supervisor.current._connection.wire

    rabbitmq.pause()
    with ThreadPoolExecutor(30) as pool:
        sends = [pool.submit(connection.send, Message.encode(MEGABYTE, queue)) for _ in range(30)]
        wait_until(lambda: wire.is_congested)
        rabbitmq.resume()
        for send in sends:
            send.result()

    assert rabbitmq.count(queue) == 31


def test_outage_is_logged_once(connect, unreachable_port, caplog):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/", timeout=0.3)
    message = Message.encode(b"x", "orders")

    for _ in range(50):
        with pytest.raises(BrokerUnavailable):
            connection.send(message)

    lines = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert [record.name for record in lines] == ["faststream_django.connection"]
    assert "state=unavailable" in lines[0].getMessage()
