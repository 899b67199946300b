"""What is in RabbitMQ once a publish has returned."""

import datetime as dt
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faststream_django.conf.topology import Binding, ExchangeSettings, QueueSettings
from faststream_django.exceptions import ConnectionLost, InvalidMessage, MessageRejected, MessageUnroutable
from faststream_django.messages import Message


def wait_until(condition, timeout=15):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def test_message_is_in_the_queue_as_it_was_published(connect, rabbitmq, queue):
    message = Message.encode(
        {"id": 1, "price": "9.99"},
        queue,
        headers={"tenant": "acme", "attempt": 1, "nested": {"deep": [1, "two"]}},
        correlation_id="flow-1",
        message_id="message-1",
        reply_to="answers",
        content_encoding="identity",
        expiration=60,
        priority=3,
        timestamp=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        message_type="order.placed",
    )

    connect(rabbitmq.url()).send(message)

    [stored] = rabbitmq.drain(queue)
    assert stored.body == b'{"id":1,"price":"9.99"}'
    assert stored.routing_key == queue
    properties = stored.properties
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert properties.content_encoding == "identity"
    assert properties.headers == {"tenant": "acme", "attempt": 1, "nested": {"deep": [1, "two"]}}
    assert properties.message_id == "message-1"
    assert properties.correlation_id == "flow-1"
    assert properties.reply_to == "answers"
    assert properties.expiration == "60000"
    assert properties.priority == 3
    assert properties.timestamp == 1767323045
    assert properties.type == "order.placed"


def test_thousand_publishes_from_32_threads_use_one_connection(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())
    peers = set()

    def publish(number):
        connection.send(Message.encode({"number": number}, queue))
        return number

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(publish, range(1000)))
    peers = {client.peer_port for client in rabbitmq.connections()}

    bodies = [stored.body for stored in rabbitmq.drain(queue)]
    assert sorted(bodies) == sorted(b'{"number":%d}' % number for number in range(1000))
    assert len(peers) == 1


def test_messages_of_a_bulk_keep_their_order(connect, rabbitmq, queue):
    messages = [Message.encode({"number": number}, queue) for number in range(1500)]

    result = connect(rabbitmq.url()).send_many(iter(messages))

    assert (result.confirmed, result.errors, result.stopped_at) == (1500, {}, None)
    assert [stored.body for stored in rabbitmq.drain(queue)] == [message.body for message in messages]


def test_first_connection_is_shared_by_threads_that_come_at_once(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())
    barrier = threading.Barrier(8)

    def publish():
        barrier.wait()
        connection.send(Message.encode(b"x", queue))

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(publish) for _ in range(8)]:
            future.result()

    assert len(rabbitmq.connections()) == 1


def test_unroutable_message_is_an_error_and_the_next_one_works(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())

    with pytest.raises(MessageUnroutable, match="no queue is bound") as caught:
        connection.send(Message.encode(b"x", "no-such-queue", message_id="lost"))
    connection.send(Message.encode(b"y", queue))

    assert (caught.value.message_id, caught.value.maybe_sent) == ("lost", False)
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"y"]


def test_unroutable_message_that_is_not_mandatory_is_dropped(connect, rabbitmq):
    connect(rabbitmq.url()).send(Message.encode(b"x", "no-such-queue", mandatory=False))


def test_transient_message_is_marked_so(connect, rabbitmq, queue):
    connect(rabbitmq.url()).send(Message.encode(b"x", queue, persist=False))

    assert rabbitmq.drain(queue)[0].properties.delivery_mode == 1


def test_missing_exchange_hurts_nobody_else(connect, rabbitmq, queue):
    """On one shared channel the broker's 404 would fail everything in flight."""
    connection = connect(rabbitmq.url())
    missing = Message.encode(b"x", exchange="no-such-exchange", routing_key="key")
    failures = []

    def publish(number):
        if number % 10:
            connection.send(Message.encode(b"%d" % number, queue))
            return
        with pytest.raises(MessageUnroutable, match="no exchange 'no-such-exchange'") as caught:
            connection.send(missing)
        failures.append(caught.value)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(publish, range(300)))

    assert len(rabbitmq.drain(queue)) == 270
    assert not any(error.maybe_sent for error in failures)
    assert len({id(error) for error in failures}) == 30
    assert len(rabbitmq.connections()) == 1


def test_each_message_for_a_missing_exchange_is_known_not_to_be_sent(connect, rabbitmq):
    """RabbitMQ closes the channel for the first of them: the others must not be on it."""
    connection = connect(rabbitmq.url())

    result = connection.send_many(Message.encode(b"x", "k", "missing") for _ in range(10))

    assert {type(error) for error in result.errors.values()} == {MessageUnroutable}
    assert len(result.errors) == 10


def test_exchange_deleted_later_is_told_and_works_again_once_it_is_back(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())
    rabbitmq.declare_exchange("short-lived", "fanout")
    rabbitmq.bind(queue, "short-lived")
    message = Message.encode(b"x", exchange="short-lived")
    connection.send(message)
    rabbitmq.delete_exchange("short-lived")

    for _ in range(3):
        with pytest.raises(MessageUnroutable, match="no exchange 'short-lived'"):
            connection.send(message)
        connection.send(Message.encode(b"y", queue))
    rabbitmq.declare_exchange("short-lived", "fanout")
    rabbitmq.bind(queue, "short-lived")
    connection.send(message)

    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x", b"y", b"y", b"y", b"x"]
    rabbitmq.delete_exchange("short-lived")


def test_full_queue_is_told_for_each_message(connect, rabbitmq):
    queue = rabbitmq.declare_queue(arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    messages = [Message.encode({"number": number}, queue) for number in range(5)]

    result = connect(rabbitmq.url()).send_many(iter(messages))

    rejected = {type(error) for error in result.errors.values()}
    assert rejected == {MessageRejected}
    assert result.confirmed == len(rabbitmq.drain(queue)) == 2
    rabbitmq.delete_queue(queue)


def test_full_queue_of_a_fan_out_leaves_the_outcome_unknown(connect, rabbitmq, queue):
    full = rabbitmq.declare_queue(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    rabbitmq.declare_exchange("fan-out", "fanout")
    rabbitmq.bind(queue, "fan-out")
    rabbitmq.bind(full, "fan-out")
    connection = connect(rabbitmq.url())
    connection.send(Message.encode(b"x", exchange="fan-out"))

    with pytest.raises(MessageRejected, match="may have it") as caught:
        connection.send(Message.encode(b"y", exchange="fan-out"))

    assert caught.value.maybe_sent
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x", b"y"]
    rabbitmq.delete_exchange("fan-out")
    rabbitmq.delete_queue(full)


@pytest.mark.parametrize("has_wire", [True, False])
def test_headers_that_do_not_fit_into_a_frame_hurt_no_other_message(
    connect, rabbitmq, queue, has_wire, monkeypatch
):
    """RabbitMQ ends the connection with a FRAME_ERROR."""
    if not has_wire:
        monkeypatch.setattr("faststream_django.backends.rabbit.dialing.make_wire", lambda: None)
    rabbitmq.ctl("eval", "application:set_env(rabbit, frame_max, 8192).")
    connection = connect(rabbitmq.url())
    connection.send(Message.encode(b"x", queue, headers={"short": "x" * 7_000}))
    before = {client.peer_port for client in rabbitmq.connections()}
    rabbitmq.ctl("eval", "application:set_env(rabbit, frame_max, 131072).")

    with pytest.raises(InvalidMessage, match=r"8,192 .frame_max") as caught:
        connection.send(Message.encode(b"y", queue, headers={"long": "x" * 8_150}))
    connection.send(Message.encode(b"z", queue, headers={"short": "x" * 7_000}))

    assert not caught.value.maybe_sent
    assert {client.peer_port for client in rabbitmq.connections()} == before
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x", b"z"]


def test_user_without_write_permission_is_told_and_others_go_on(connect, rabbitmq, queue):
    rabbitmq.ctl("add_user", "reader", "secret-of-reader")
    rabbitmq.ctl("set_permissions", "reader", "^$", "^allowed$", ".*")
    rabbitmq.declare_exchange("allowed", "fanout")
    rabbitmq.bind(queue, "allowed")
    connection = connect(rabbitmq.url("reader", "secret-of-reader"), declare=False)

    with pytest.raises(MessageRejected, match="access to exchange") as caught:
        connection.send(Message.encode(b"x", queue))
    connection.send(Message.encode(b"y", exchange="allowed"))

    assert not caught.value.maybe_sent
    assert "secret-of-reader" not in str(caught.value)
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"y"]
    rabbitmq.delete_exchange("allowed")
    rabbitmq.ctl("delete_user", "reader")


def test_two_messages_with_one_id_in_flight_get_their_own_verdicts(connect, rabbitmq, queue):
    """aiormq tells returned messages apart by their ids."""
    good = Message.encode(b"good", queue, message_id="same")
    lost = Message.encode(b"lost", "no-such-queue", message_id="same")

    result = connect(rabbitmq.url()).send_many([good, good, *[good, lost] * 50])

    assert sorted(result.errors) == list(range(3, 102, 2))
    assert len(rabbitmq.drain(queue)) == 52


def test_topology_is_declared_on_connect(connect, rabbitmq):
    connection = connect(
        rabbitmq.url(),
        exchanges=(
            ExchangeSettings(name="orders", type="topic"),
            ExchangeSettings(
                name="audit", type="fanout", bindings=(Binding(source="orders", routing_key="#"),)
            ),
        ),
        queues=(
            QueueSettings(name="placed", bindings=(Binding(source="orders", routing_key="*.placed"),)),
            QueueSettings(name="everything", type="quorum", bindings=(Binding(source="audit"),)),
            QueueSettings(name="log", type="stream"),
        ),
    )

    connection.send(Message.encode(b"x", exchange="orders", routing_key="order.placed"))
    connection.send(Message.encode(b"y", exchange="orders", routing_key="order.paid"))
    connection.send(Message.encode(b"z", "log"))

    assert [stored.body for stored in rabbitmq.drain("placed")] == [b"x"]
    assert [stored.body for stored in rabbitmq.drain("everything")] == [b"x", b"y"]
    rows = json.loads(rabbitmq.ctl("list_queues", "name", "type", "--formatter", "json"))
    types = {row["name"]: row["type"] for row in rows}
    assert (types["placed"], types["everything"], types["log"]) == ("classic", "quorum", "stream")
    rabbitmq.delete_queue("placed", "everything", "log")
    rabbitmq.delete_exchange("audit", "orders")


@pytest.mark.parametrize("has_wire", [True, False])
def test_topology_that_cannot_be_declared_wedges_nothing(connect, rabbitmq, caplog, has_wire, monkeypatch):
    if not has_wire:
        monkeypatch.setattr("faststream_django.backends.rabbit.dialing.make_wire", lambda: None)
    rabbitmq.declare_exchange("taken", "fanout")
    rabbitmq.declare_queue("short", arguments={"x-max-length": 5})
    connection = connect(
        rabbitmq.url(),
        exchanges=(ExchangeSettings(name="taken", type="topic"),),
        queues=(QueueSettings(name="short"), QueueSettings(name="fine")),
    )

    connection.send(Message.encode(b"x", "fine"))
    rabbitmq.close_all_connections()
    connection.send(Message.encode(b"y", "fine"))

    assert [stored.body for stored in rabbitmq.drain("fine")] == [b"x", b"y"]
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(logged) == 2
    assert any("exchange 'taken'" in text and "inequivalent arg 'type'" in text for text in logged)
    assert any("queue 'short'" in text and "inequivalent arg 'x-max-length'" in text for text in logged)
    rabbitmq.delete_queue("short", "fine")
    rabbitmq.delete_exchange("taken")


@pytest.mark.parametrize("declare", ["passive", False])
def test_nothing_is_made_when_topology_is_not_declared(connect, rabbitmq, declare):
    connection = connect(rabbitmq.url(), queues=(QueueSettings(name="absent"),), declare=declare)

    with pytest.raises(MessageUnroutable) as caught:
        connection.send(Message.encode(b"x", "absent"))

    assert ("had failed: NOT_FOUND" in str(caught.value)) == (declare == "passive")


def test_connection_names_its_process(connect, rabbitmq, queue):
    connect(rabbitmq.url()).send(Message.encode(b"x", queue))

    [client] = rabbitmq.connections()
    name = client.client_properties["connection_name"]
    assert name.startswith("faststream_django default pid=")


def test_name_in_the_url_names_the_connection(connect, rabbitmq, queue):
    connect(f"{rabbitmq.url()}?name=checkout%20service").send(Message.encode(b"x", queue))

    [client] = rabbitmq.connections()
    assert client.client_properties["connection_name"] == "checkout service"


def test_next_url_is_used_when_a_node_is_away(connect, rabbitmq, queue, unreachable_port):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/", rabbitmq.url())

    connection.send(Message.encode(b"x", queue))

    assert len(rabbitmq.drain(queue)) == 1


def test_lost_connection_is_replaced_within_the_call(connect, rabbitmq, queue, proxy):
    connection = connect(proxy.url)
    connection.send(Message.encode(b"x", queue))

    proxy.reset()
    wait_until(lambda: not connection.is_connected)
    connection.send(Message.encode(b"y", queue))

    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x", b"y"]


def test_connection_comes_back_after_a_restart_of_the_node(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())
    connection.send(Message.encode(b"x", queue))

    rabbitmq.stop()
    rabbitmq.start()
    # While nobody publishes there are up to 6 s between two attempts.
    wait_until(lambda: connection.is_connected, timeout=20)
    connection.send(Message.encode(b"y", queue))

    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x", b"y"]


def test_stop_closes_the_connection_cleanly(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())
    connection.send(Message.encode(b"x", queue))

    connection.stop()

    assert rabbitmq.connections() == []
    connection.send(Message.encode(b"y", queue))
    assert len(rabbitmq.drain(queue)) == 2


def test_exchange_deleted_under_load_hurts_no_message_for_another_exchange(connect, rabbitmq, queue):
    """aiormq's own channel writes on after channel.close-ok, for which the broker ends the connection."""
    connection = connect(rabbitmq.url())
    doomed, good = Message.encode(b"doomed", exchange="doomed"), Message.encode(b"good", queue)
    confirmed, routed, unroutable, done = [], [], [], threading.Event()

    def publish_doomed():
        while not done.is_set():
            try:
                connection.send(doomed)
                routed.append(doomed)
            except MessageUnroutable as error:
                unroutable.append(error)
            except ConnectionLost:
                pass  # one of many that were in flight for this exchange

    def publish_good():
        while not done.is_set():
            connection.send(good)
            confirmed.append(good)

    rabbitmq.declare_exchange("doomed", "fanout")
    rabbitmq.bind(queue, "doomed")
    connection.send(good)
    before = {client.peer_port for client in rabbitmq.connections()}
    with ThreadPoolExecutor(56) as pool:
        futures = [pool.submit(publish_doomed) for _ in range(40)]
        futures += [pool.submit(publish_good) for _ in range(16)]
        for _ in range(2):
            seen, known = len(routed), len(unroutable)
            wait_until(lambda seen=seen: len(routed) > seen + 200)
            rabbitmq.delete_exchange("doomed")
            wait_until(lambda known=known: len(unroutable) > known + 20)
            rabbitmq.declare_exchange("doomed", "fanout")
            rabbitmq.bind(queue, "doomed")
        done.set()
        for future in futures:
            future.result()
    after = {client.peer_port for client in rabbitmq.connections()}

    assert before == after
    assert [one.body for one in rabbitmq.drain(queue)].count(b"good") == len(confirmed) + 1


def test_many_exchanges_share_a_limited_number_of_channels(connect, rabbitmq, queue, monkeypatch):
    monkeypatch.setattr("faststream_django.backends.rabbit.exchange_publisher.MOST_CHANNELS", 4)
    names = [f"limited-{number}" for number in range(10)]
    for name in names:
        rabbitmq.declare_exchange(name, "fanout")
        rabbitmq.bind(queue, name)
    connection = connect(rabbitmq.url())

    for name in names * 2:
        connection.send(Message.encode(name, exchange=name))

    wait_until(lambda: rabbitmq.ctl("-q", "list_channels", "pid").count("<") <= 4)
    assert [stored.body.decode() for stored in rabbitmq.drain(queue)] == names * 2
    rabbitmq.delete_exchange(*names)


def test_unroutable_message_first_leaves_one_channel(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())

    for _ in range(5):
        with pytest.raises(MessageUnroutable):
            connection.send(Message.encode(b"x", "no-such-queue"))

    assert rabbitmq.ctl("-q", "list_channels", "pid").count("<") == 1
