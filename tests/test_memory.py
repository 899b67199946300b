import asyncio
import logging
import os
import threading
import tracemalloc
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from time import monotonic

import pytest
from pamqp.commands import Basic

from faststream_django.backends.base import Delivery, NotSent
from faststream_django.backends.memory import MemoryBackend
from faststream_django.backends.memory.connection import attach
from faststream_django.backends.memory.queue import UNCONSUMED_LIMIT
from faststream_django.backends.memory.refusals import ServerRefused
from faststream_django.backends.memory.routing import matches_headers, matches_topic
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.conf import broker_settings_from
from faststream_django.exceptions import MessageRejected, MessageUnroutable
from faststream_django.messages import Message


@pytest.fixture
def server():
    return MemoryServer()


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


def put(server, queue, body=b"x", **properties):
    return server.publish("", queue, Basic.Properties(**properties), body)


def bodies(server, queue):
    return [message.body for message in server.drain(queue)]


async def connect(url, **entry):
    backend = MemoryBackend(broker_settings_from("default", {"URL": url, **entry}))
    return await backend.connect(url)


async def send(session, payload="x", queue="", exchange=None, **options):
    message = Message.encode(payload, queue, exchange, **options)
    verdict = asyncio.get_running_loop().create_future()
    session.post(message, Delivery(message, "default"), lambda _, result: verdict.set_result(result))
    if error := await verdict:
        raise error


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for runs on this loop
            await asyncio.sleep(0)


def rabbit_broker(**options):
    from faststream.rabbit import RabbitBroker

    return RabbitBroker("memory://", logger=logging.getLogger("tests"), **options)


# Routing


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("order.created", "order.created", True),
        ("order.*", "order.created", True),
        ("order.*", "order", False),
        ("order.*", "order.created.eu", False),
        ("*", "", False),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("order.#", "order", True),
        ("order.#", "order.created.eu", True),
        ("#.eu", "eu", True),
        ("#.eu", "order.created.eu", True),
        ("#.eu", "order.created.us", False),
        ("a.#.z", "a.z", True),
        ("a.#.z", "a.b.c.z", True),
        ("a.#.z", "a.z.b", False),
        ("a.#.*.z", "a.z", False),
        ("a.#.*.z", "a.b.z", True),
        ("#.#", "", True),
        ("#.b.#", "a.b.b.c", True),
        ("*.#.b", "b", False),
        ("*.#.b", "a.b", True),
        ("a..b", "a..b", True),
        ("a.*.b", "a..b", True),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_topic_patterns_match_as_in_rabbitmq(pattern, key, expected):
    assert matches_topic(pattern, key) is expected


def test_topic_pattern_of_many_hashes_is_matched_in_no_time():
    assert not matches_topic(".".join(["#", "a"] * 12), ".".join(["a"] * 200 + ["b"]))


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({}, {}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 1}, True),
        ({"x-match": "any", "a": 1}, {"a": 2}, False),
        ({"a": None}, {"a": "whatever"}, True),
        ({"a": None}, {}, False),
        ({"x-kind": 1, "a": 1}, {"a": 1}, True),
        ({"x-match": "all-with-x", "x-kind": 1, "a": 1}, {"a": 1}, False),
        ({"x-match": "all-with-x", "x-kind": 1}, {"x-kind": 1}, True),
        ({"x-match": "any", "x-kind": 1}, {"x-kind": 1}, False),
        ({"x-match": "any-with-x", "x-kind": 1}, {"x-kind": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1.0}, {"a": 1}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": Decimal(1)}, {"a": 1}, False),
        ({"a": Decimal("1.0")}, {"a": Decimal(1)}, False),
        ({"a": datetime(1970, 1, 1, 0, 1, tzinfo=UTC)}, {"a": 60}, True),
        ({"a": datetime(1970, 1, 1, 0, 1, tzinfo=UTC)}, {"a": datetime(1970, 1, 1, 0, 1, tzinfo=UTC)}, False),
        ({"a": 60_000}, {"a": datetime(1970, 1, 1, 0, 1, tzinfo=UTC)}, True),
        ({"a": "x"}, {"a": bytearray(b"x")}, True),
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": [1]}, {"a": [1.0]}, False),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, True),
        ({"a": {"b": 1}}, {"a": {"b": True}}, False),
    ],
)
def test_header_arguments_match_as_in_rabbitmq(arguments, headers, expected):
    assert matches_headers(arguments, headers) is expected


def test_message_reaches_a_queue_once_although_two_bindings_match(server):
    server.declare_exchange("events", "topic")
    queue = server.declare_queue("orders")
    server.bind(queue, "events", "order.*")
    server.bind(queue, "events", "#")

    server.publish("events", "order.created", Basic.Properties(), b"x")

    assert server.count("orders") == 1


def test_exchanges_bound_in_a_circle_deliver_once(server):
    first, second = server.declare_exchange("a", "fanout"), server.declare_exchange("b", "fanout")
    server.bind(first, "b")
    server.bind(second, "a")
    server.bind(server.declare_queue("q"), "b")

    assert server.publish("a", "", Basic.Properties(), b"x") == "confirmed"
    assert server.count("q") == 1


def test_alternate_exchange_takes_what_has_no_queue(server):
    server.declare_exchange("spare", "fanout")
    server.declare_exchange("main", "direct", arguments={"alternate-exchange": "spare"})
    server.bind(server.declare_queue("rest"), "spare")

    assert server.publish("main", "nowhere", Basic.Properties(), b"x") == "confirmed"
    assert server.count("rest") == 1


@pytest.mark.parametrize("name", ["amq.direct", "amq.topic", "amq.fanout", "amq.headers"])
def test_exchanges_of_rabbitmq_exist(server, name):
    server.bind(server.declare_queue("q"), name, "key", {"a": 1})

    server.publish(name, "key", Basic.Properties(headers={"a": 1}), b"x")

    assert server.count("q") == 1


def test_internal_exchange_refuses_a_publisher(server):
    server.declare_exchange("inner", internal=True)

    with pytest.raises(ServerRefused, match="ACCESS_REFUSED - cannot publish to internal exchange"):
        server.publish("inner", "", Basic.Properties(), b"x")


# Declaring


def test_declaring_again_with_the_same_arguments_is_accepted(server):
    first = server.declare_queue("q", arguments={"x-max-length": 5})

    again = server.declare_queue("q", arguments={"x-max-length": 5, "x-queue-type": "classic"})

    assert again is first


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"durable": False}, "inequivalent arg 'durable' for queue 'q' in vhost '/'"),
        ({"arguments": {"x-max-length": 6}}, "inequivalent arg 'x-max-length'"),
        ({"arguments": {"x-queue-type": "quorum"}}, "received 'quorum' but current is 'classic'"),
    ],
)
def test_queue_with_other_arguments_is_refused(server, other, text):
    server.declare_queue("q")

    with pytest.raises(ServerRefused, match="PRECONDITION_FAILED") as refused:
        server.declare_queue("q", **other)

    assert text in str(refused.value)
    assert refused.value.code == 406


def test_exchange_with_another_type_is_refused(server):
    server.declare_exchange("e", "topic")

    with pytest.raises(ServerRefused, match="inequivalent arg 'type' for exchange 'e'"):
        server.declare_exchange("e", "fanout")


def test_exchange_of_an_unknown_type_is_refused(server):
    with pytest.raises(ServerRefused, match="unknown exchange type 'x-delayed-message'"):
        server.declare_exchange("e", "x-delayed-message")


def test_exchange_name_with_reserved_prefix_is_refused(server):
    with pytest.raises(ServerRefused, match="contains reserved prefix 'amq"):
        server.declare_exchange("amq.mine")


@pytest.mark.parametrize("declare", ["declare_queue", "declare_exchange"])
def test_passive_declaration_of_what_is_missing_is_refused(server, declare):
    with pytest.raises(ServerRefused, match=r"NOT_FOUND - no (queue|exchange) 'x' in vhost '/'"):
        getattr(server, declare)("x", passive=True)


def test_passive_declaration_asks_for_no_arguments(server):
    queue = server.declare_queue("q", durable=False, arguments={"x-max-length": 1})

    assert server.declare_queue("q", passive=True) is queue


def test_queue_without_a_name_gets_one(server):
    assert server.declare_queue().name.startswith("amq.gen-")


def test_exclusive_queue_belongs_to_one_connection_and_ends_with_it(server):
    owner = object()
    server.declare_queue("q", exclusive=True, owner=owner)

    with pytest.raises(ServerRefused, match="RESOURCE_LOCKED"):
        server.declare_queue("q", exclusive=True, owner=object())
    server.release(owner)

    with pytest.raises(ServerRefused, match="NOT_FOUND"):
        server.count("q")


def test_auto_delete_exchange_goes_with_its_last_queue(server):
    server.declare_exchange("e", auto_delete=True)
    queue = server.declare_queue("q")
    server.bind(queue, "e")

    server.delete_queue(queue)

    with pytest.raises(ServerRefused, match="NOT_FOUND"):
        server.exchange("e")


# Limits


def test_full_queue_drops_its_oldest_message(server):
    server.declare_queue("q", arguments={"x-max-length": 2})

    for body in (b"1", b"2", b"3"):
        put(server, "q", body)

    assert bodies(server, "q") == [b"2", b"3"]


def test_full_queue_with_reject_publish_refuses(server):
    server.declare_queue("q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    put(server, "q", b"1")

    assert put(server, "q", b"2") == "rejected"
    assert bodies(server, "q") == [b"1"]


def test_limit_in_bytes_counts_bodies(server):
    server.declare_queue("q", arguments={"x-max-length-bytes": 5})

    for body in (b"111", b"222", b"3"):
        put(server, "q", body)

    assert bodies(server, "q") == [b"222", b"3"]


def test_full_queue_keeps_other_copies_of_a_rejected_message(server):
    server.declare_exchange("e", "fanout")
    full = {"x-max-length": 0, "x-overflow": "reject-publish"}
    server.bind(server.declare_queue("full", arguments=full), "e")
    server.bind(server.declare_queue("free"), "e")

    assert server.publish("e", "", Basic.Properties(), b"x") == "rejected"
    assert server.count("free") == 1


def test_queue_without_consumer_keeps_its_newest_messages_and_warns_once(server, caplog):
    server.declare_queue("q")

    for number in range(UNCONSUMED_LIMIT + 5):
        put(server, "q", str(number).encode())

    kept = bodies(server, "q")
    assert len(kept) == UNCONSUMED_LIMIT
    assert kept[0] == b"5"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "queue 'q'" in warnings[0].getMessage()


def test_expired_message_is_not_delivered(server):
    server.declare_queue("q")
    put(server, "q", b"gone", expiration="0")
    put(server, "q", b"stays", expiration="60000")

    assert bodies(server, "q") == [b"stays"]


def test_queue_ttl_applies_to_messages_without_expiration(server):
    server.declare_queue("q", arguments={"x-message-ttl": 0})

    put(server, "q")

    assert server.count("q") == 0


# Dead letters


def dead_letter_queue(server, **arguments):
    server.declare_exchange("dlx", "fanout")
    server.bind(server.declare_queue("dead"), "dlx")
    server.declare_queue("q", arguments={"x-dead-letter-exchange": "dlx", **arguments})


def test_expired_message_is_dead_lettered_with_its_history(server):
    dead_letter_queue(server)

    put(server, "q", b"x", expiration="0", headers={"tenant": "a"})
    server.count("q")
    [message] = server.drain("dead")

    assert message.body == b"x"
    assert message.exchange == "dlx"
    assert message.routing_key == "q"
    assert message.expiration is None
    assert message.headers["tenant"] == "a"
    assert message.headers["x-first-death-queue"] == "q"
    assert message.headers["x-first-death-reason"] == "expired"
    [death] = message.headers["x-death"]
    assert death["count"] == 1
    assert death["reason"] == "expired"
    assert death["queue"] == "q"
    assert death["exchange"] == ""
    assert death["routing-keys"] == ["q"]
    assert death["original-expiration"] == "0"


def test_dropped_message_is_dead_lettered_under_the_routing_key_of_the_queue(server):
    dead_letter_queue(server, **{"x-max-length": 1, "x-dead-letter-routing-key": "late"})

    put(server, "q", b"1")
    put(server, "q", b"2")
    [message] = server.drain("dead")

    assert (message.body, message.routing_key) == (b"1", "late")
    assert message.headers["x-first-death-reason"] == "maxlen"


def test_rejected_publish_can_be_dead_lettered_too(server):
    dead_letter_queue(server, **{"x-max-length": 0, "x-overflow": "reject-publish-dlx"})

    assert put(server, "q") == "rejected"
    assert server.count("dead") == 1


def test_dead_letter_for_a_missing_exchange_is_dropped(server):
    server.declare_queue("q", arguments={"x-dead-letter-exchange": "no", "x-message-ttl": 0})

    assert put(server, "q") == "confirmed"
    assert server.count("q") == 0


def test_dead_letters_do_not_go_round_by_themselves(server):
    arguments = {"x-dead-letter-exchange": "", "x-message-ttl": 0}
    server.declare_queue("a", arguments=arguments | {"x-dead-letter-routing-key": "b"})
    server.declare_queue("b", arguments=arguments | {"x-dead-letter-routing-key": "a"})

    put(server, "a")

    assert (server.count("a"), server.count("b")) == (0, 0)


def test_expired_message_is_dead_lettered_although_nobody_asks():
    async def wait_for_dead_letter():
        server, broker = MemoryServer(), rabbit_broker()
        arrived = asyncio.Event()

        @broker.subscriber("work")
        async def work(body):
            arrived.set()

        await attach(server, broker)
        delay = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"}
        server.declare_queue("delay", arguments=delay | {"x-message-ttl": 20})
        put(server, "delay")
        async with asyncio.timeout(5):
            await arrived.wait()
        await broker.stop()

    asyncio.run(wait_for_dead_letter())


# Queues that expire


@pytest.mark.parametrize("milliseconds", [0, -1, "5", 1.5, True, 2**32])
def test_expiry_that_is_no_number_of_milliseconds_is_refused(server, milliseconds):
    with pytest.raises(ServerRefused, match="invalid arg 'x-expires' for queue 'q'"):
        server.declare_queue("q", arguments={"x-expires": milliseconds})


def test_queue_in_use_does_not_expire(server, monkeypatch):
    now = monotonic()
    monkeypatch.setattr("faststream_django.backends.memory.queue.time.monotonic", lambda: now)
    server.declare_exchange("dlx", "fanout")
    server.bind(server.declare_queue("dead"), "dlx")
    arguments = {"x-expires": 1000, "x-dead-letter-exchange": "dlx"}
    queue = server.declare_queue("q", arguments=arguments)

    now += 0.9
    server.declare_queue("q", arguments=arguments)
    now += 0.9
    server.drain("q")
    now += 0.9
    consumer = Holder()
    queue.add_consumer(consumer)
    now += 9
    assert server.queue("q") is queue
    queue.remove_consumer(consumer)
    now += 0.9
    server.publish("", "q", Basic.Properties(), b"x")
    assert server.count("q") == 1
    now += 0.1

    assert server.publish("", "q", Basic.Properties(), b"x") == "returned"
    assert server.count("dead") == 0
    assert server.declare_queue("q", arguments=arguments) is not queue


class Holder:
    def has_room(self):
        return False

    def take(self, envelope):
        raise AssertionError


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_copies_to_what_is_no_list_are_refused(server, header):
    server.declare_queue("q")

    with pytest.raises(ServerRefused, match="unacceptable_type_in_header"):
        server.publish("", "q", Basic.Properties(headers={header: "q"}), b"x")


# The server of a process


def test_one_server_for_each_name():
    first = MemoryServer.get("memory://first")

    assert MemoryServer.get("memory://first") is first
    assert MemoryServer.get("memory://second") is not first
    assert MemoryServer.get() is MemoryServer.get("memory://")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_child_begins_with_an_empty_server(url):
    server = MemoryServer.get(url)
    server.declare_queue("q")

    child = os.fork()
    if child == 0:
        os._exit(0 if not MemoryServer.get(url)._queues else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert MemoryServer.get(url) is server


def test_drained_message_is_what_was_published(server):
    server.declare_queue("q")
    now = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)

    put(
        server,
        "q",
        b"{}",
        content_type="application/json",
        headers={"a": 1},
        message_id="id",
        correlation_id="cid",
        reply_to="answers",
        expiration="1500",
        priority=3,
        timestamp=now,
        message_type="made",
        delivery_mode=2,
    )
    [message] = server.drain("q")

    assert message.decode() == {}
    assert message.headers == {"a": 1}
    assert (message.message_id, message.correlation_id) == ("id", "cid")
    assert (message.reply_to, message.message_type) == ("answers", "made")
    assert (message.expiration, message.priority, message.persist) == (1.5, 3, True)
    assert message.timestamp == now


def test_readers_do_not_share_headers(server):
    server.declare_exchange("e", "fanout")
    server.bind(server.declare_queue("a"), "e")
    server.bind(server.declare_queue("b"), "e")
    headers = {"list": [1]}

    server.publish("e", "", Basic.Properties(headers=headers), b"x")
    headers["list"].append(2)
    server.drain("a")[0].headers["list"].append(3)

    assert server.drain("b")[0].headers == {"list": [1]}


def test_purge_empties_every_queue(server):
    server.declare_queue("q")
    put(server, "q")

    server.purge()

    assert server.count("q") == 0


def test_inspection_is_safe_while_another_thread_publishes(server):
    server.declare_queue("q")
    total, drained = 3000, []

    def publish():
        for number in range(total):
            put(server, "q", str(number).encode())
            while server.count("q") > 500:
                pass

    thread = threading.Thread(target=publish)
    thread.start()
    while thread.is_alive() or server.count("q"):
        drained += bodies(server, "q")
    thread.join()

    assert drained == [str(number).encode() for number in range(total)]


# A publisher


def test_session_confirms_once_the_message_is_in_the_queue(url):
    async def publish():
        session = await connect(url, QUEUES={"orders": {}})
        await send(session, {"id": 1}, "orders", headers={"a": 1})
        await session.close()

    asyncio.run(publish())

    [message] = MemoryServer.get(url).drain("orders")
    assert message.decode() == {"id": 1}
    assert message.headers == {"a": 1}
    assert message.content_type == "application/json"


def test_session_declares_the_topology_of_the_settings(url):
    async def publish():
        session = await connect(
            url,
            EXCHANGES={"all": {"type": "fanout"}, "events": {"type": "topic", "bind": {"all": ""}}},
            QUEUES={"orders": {"bind": {"events": ["order.#"]}}},
        )
        await send(session, exchange="all", routing_key="order.created")

    asyncio.run(publish())

    assert MemoryServer.get(url).count("orders") == 1


def test_unroutable_message_is_an_error(url):
    async def publish():
        await send(await connect(url), queue="nowhere")

    with pytest.raises(MessageUnroutable, match="no queue is bound"):
        asyncio.run(publish())


def test_unroutable_message_is_dropped_if_it_is_not_mandatory(url):
    async def publish():
        await send(await connect(url), queue="nowhere", mandatory=False)

    asyncio.run(publish())


def test_missing_exchange_is_an_error_that_names_it(url):
    async def publish():
        await send(await connect(url), exchange="nowhere")

    with pytest.raises(MessageUnroutable, match="NOT_FOUND - no exchange 'nowhere'"):
        asyncio.run(publish())


def test_full_queue_is_an_error(url):
    arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}

    async def publish():
        await send(await connect(url, QUEUES={"q": {"arguments": arguments}}), queue="q")

    with pytest.raises(MessageRejected):
        asyncio.run(publish())


def test_failed_declaration_is_told_with_the_unroutable_message(url, caplog):
    MemoryServer.get(url).declare_queue("q", durable=False)
    MemoryServer.get(url).delete_queue(MemoryServer.get(url).queue("q"))

    async def publish():
        session = await connect(url, QUEUES={"q": {}}, DECLARE="passive")
        await send(session, queue="q")

    with pytest.raises(MessageUnroutable, match=r"Declaring 'q' had failed: .*NOT_FOUND"):
        asyncio.run(publish())
    assert "NOT_FOUND" in caplog.text


def test_closed_session_sends_nothing(url):
    async def publish():
        session = await connect(url, QUEUES={"q": {}})
        await session.close()
        await send(session, queue="q")

    with pytest.raises(NotSent):
        asyncio.run(publish())
    assert MemoryServer.get(url).count("q") == 0


# FastStream on the embedded broker


def test_subscriber_gets_the_message_and_its_answer_is_published(server):
    from faststream.rabbit import ExchangeType, RabbitExchange, RabbitQueue

    async def consume():
        broker = rabbit_broker()
        events = RabbitExchange("events", type=ExchangeType.TOPIC)

        @broker.subscriber(RabbitQueue("orders", routing_key="order.*"), events)
        @broker.publisher("out")
        async def handle(body: dict):
            return {"seen": body["id"]}

        server.declare_queue("out")
        await attach(server, broker)
        await broker.publish({"id": 1}, routing_key="order.created", exchange=events)
        await until(lambda: server.count("out"))
        await broker.stop()

    asyncio.run(consume())

    assert [message.decode() for message in server.drain("out")] == [{"seen": 1}]


def test_request_is_answered(server):
    async def request():
        broker = rabbit_broker()

        @broker.subscriber("double")
        async def double(number: int):
            return number * 2

        await attach(server, broker)
        answers = [await broker.request(number, "double", timeout=5) for number in (1, 2)]
        decoded = [await answer.decode() for answer in answers]
        await broker.stop()
        return decoded

    assert asyncio.run(request()) == [2, 4]
    assert [name for name in server._queues if name != "double"] == []


@pytest.mark.parametrize(
    ("error", "left", "dead"),
    [("NackMessage", 1, 0), ("RejectMessage", 0, 1), ("ValueError", 0, 1), ("AckMessage", 0, 0)],
)
def test_verdict_of_a_handler_decides_where_the_message_goes(server, error, left, dead):
    from faststream import exceptions
    from faststream.rabbit import RabbitQueue

    async def consume():
        broker, handled = rabbit_broker(graceful_timeout=0.01), asyncio.Event()

        @broker.subscriber(RabbitQueue("q", arguments={"x-dead-letter-exchange": "dlx"}))
        async def handle(body):
            if handled.is_set():
                await asyncio.Event().wait()  # what comes again is not settled
            handled.set()
            raise getattr(exceptions, error, ValueError)

        await attach(server, broker)
        await broker.publish("x", "q")
        await handled.wait()
        await broker.stop()

    dead_letter_queue(server)
    asyncio.run(consume())

    assert (server.count("q"), server.count("dead")) == (left, dead)


def test_returned_message_comes_first_and_is_marked(server):
    from faststream.exceptions import NackMessage
    from faststream.rabbit import Channel
    from faststream.rabbit.annotations import RabbitMessage

    async def consume():
        broker = rabbit_broker(default_channel=Channel(prefetch_count=1))
        seen, done = [], asyncio.Event()

        @broker.subscriber("q")
        async def handle(body: str, message: RabbitMessage):
            seen.append((body, message.raw_message.redelivered))
            if len(seen) == 1:
                raise NackMessage
            if len(seen) == 3:
                done.set()

        server.declare_queue("q")
        put(server, "q", b"first")
        put(server, "q", b"second")
        await attach(server, broker)
        async with asyncio.timeout(5):
            await done.wait()
        await broker.stop()
        return seen

    assert asyncio.run(consume()) == [
        ("first", False),
        ("first", True),
        ("second", False),
    ]


def test_subscriber_has_no_more_in_hand_than_its_prefetch(server):
    from faststream.rabbit import Channel

    async def consume():
        broker = rabbit_broker(default_channel=Channel(prefetch_count=10))
        release, running, most = asyncio.Event(), 0, 0

        @broker.subscriber("q")
        async def handle(body):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1

        await attach(server, broker)
        for _ in range(25):
            await broker.publish("x", "q")
        await until(lambda: running == 10)
        waiting = server.count("q")
        release.set()
        await until(lambda: not server.count("q") and not running)
        await broker.stop()
        return most, waiting

    assert asyncio.run(consume()) == (10, 15)


def test_stopped_broker_gives_back_what_its_handlers_did_not_finish(server):
    async def consume():
        broker = rabbit_broker(graceful_timeout=0.01)
        started = asyncio.Event()

        @broker.subscriber("q")
        async def handle(body):
            started.set()
            await asyncio.Event().wait()

        await attach(server, broker)
        await broker.publish("x", "q")
        await started.wait()
        await broker.stop()

    asyncio.run(consume())

    assert bodies(server, "q") == [b"x"]


def test_missing_queue_is_the_drivers_error(server):
    from aiormq.exceptions import ChannelNotFoundEntity
    from faststream.rabbit import RabbitQueue

    async def consume():
        broker = rabbit_broker()

        @broker.subscriber(RabbitQueue("missing", declare=False))
        async def handle(body): ...

        await attach(server, broker)

    with pytest.raises(ChannelNotFoundEntity, match="no queue 'missing'"):
        asyncio.run(consume())


def test_memory_stays_flat_while_messages_pass_through_a_subscriber(server):
    from faststream.rabbit import Channel

    async def consume(total):
        channel = Channel(prefetch_count=10)
        broker, handled = rabbit_broker(default_channel=channel, log_level=logging.DEBUG), 0

        @broker.subscriber("q")
        async def handle(body):
            nonlocal handled
            handled += 1

        await attach(server, broker)
        sizes = []
        for number in range(total):
            await broker.publish(b"x" * 200, "q")
            await until(lambda: server.count("q") < 50)
            if number in {total // 10, total - 1}:
                sizes.append(tracemalloc.get_traced_memory()[0])
        await until(lambda: handled == total)
        await broker.stop()
        return sizes

    tracemalloc.start()
    before, after = asyncio.run(consume(8_000))
    tracemalloc.stop()

    assert after - before < 300_000  # 40 bytes for each message: less than any object
