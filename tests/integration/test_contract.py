"""What the embedded broker and RabbitMQ have in common: everything that a publisher can see."""

import asyncio
import contextlib
import itertools
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from faststream import BaseMiddleware

from faststream_django import apublish, apublish_many, brokers, publish, publish_many
from faststream_django.backends.memory.refusals import ServerRefused
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.backends.rabbit import dialing
from faststream_django.exceptions import BulkPublishError, MessageRejected, MessageUnroutable

servers = itertools.count()

FULL = {"arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}}


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """A message as it lies in a queue."""

    body: bytes
    exchange: str
    routing_key: str
    headers: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)


PROPERTIES = (
    "content_type",
    "content_encoding",
    "message_id",
    "correlation_id",
    "reply_to",
    "expiration",
    "priority",
    "timestamp",
    "message_type",
    "persist",
    "app_id",
)


class Embedded:
    def __init__(self):
        self.url = f"memory://contract-{next(servers)}"
        self._server = MemoryServer.get(self.url)

    def declare_queue(self, name, **arguments):
        self._server.declare_queue(name, arguments=arguments)

    def has_queue(self, name):
        try:
            self._server.queue(name)
        except ServerRefused:
            return False
        return True

    def count(self, queue):
        return self._server.count(queue)

    def drain(self, queue):
        return [
            Arrived(
                body=message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                headers=dict(message.headers),
                properties={name: getattr(message, name) for name in PROPERTIES},
            )
            for message in self._server.drain(queue)
        ]

    def delete(self, queues, exchanges): ...


class Rabbit:
    def __init__(self, node):
        self.url = node.url()
        self._node = node

    def declare_queue(self, name, **arguments):
        self._node.declare_queue(name, arguments={"x-queue-type": "classic", **arguments})

    def has_queue(self, name):
        from pika.exceptions import ChannelClosedByBroker

        with contextlib.suppress(ChannelClosedByBroker):
            self._node.count(name)
            return True
        return False

    def count(self, queue):
        return self._node.count(queue)

    def drain(self, queue):
        return [self._arrived(message) for message in self._node.drain(queue)]

    def delete(self, queues, exchanges):
        self._node.delete_queue(*queues)
        self._node.delete_exchange(*exchanges)

    def _arrived(self, message):
        found = message.properties
        properties = {name: getattr(found, name, None) for name in PROPERTIES}
        properties["message_type"] = found.type
        properties["persist"] = found.delivery_mode == 2
        properties["expiration"] = found.expiration and int(found.expiration) / 1000
        properties["timestamp"] = datetime.fromtimestamp(found.timestamp, tz=UTC)
        return Arrived(
            body=message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            headers=message.headers,
            properties=properties,
        )


@pytest.fixture(
    params=[
        "memory",
        *(pytest.param(name, marks=pytest.mark.rabbitmq) for name in ("rabbitmq", "without-wire")),
    ]
)
def server(request, monkeypatch):
    if request.param == "memory":
        return Embedded()
    if request.param == "without-wire":  # as with an aiormq that has no place for one
        monkeypatch.setattr(dialing, "make_wire", lambda: None)
    return Rabbit(request.getfixturevalue("rabbitmq"))


@pytest.fixture
def configure(server, settings):
    """Set the topology of the default broker; what it declares is deleted after the test."""
    queues, exchanges = {"unknown"}, set()

    def configure(queues_=(), exchanges_=(), **entry):
        declared = queues_ if isinstance(queues_, dict) else {name: {} for name in queues_}
        queues.update(declared)
        exchanges.update(exchanges_)
        settings.FASTSTREAM = {
            "default": {
                "URL": server.url,
                "QUEUES": declared,
                "EXCHANGES": dict(exchanges_),
                **entry,
            }
        }

    yield configure
    brokers.stop()
    server.delete(queues, exchanges)


def bodies(server, queue):
    return [message.body for message in server.drain(queue)]


# What arrives


@pytest.mark.parametrize(
    ("payload", "body", "content_type"),
    [
        ({"id": 1}, b'{"id":1}', "application/json"),
        ([1, "two"], b'[1,"two"]', "application/json"),
        ("text", b"text", "text/plain"),
        (b"\x00\xff", b"\x00\xff", None),
        ("", b"", "text/plain"),
        (b"", b"", None),
    ],
)
def test_body_and_content_type_arrive(server, configure, payload, body, content_type):
    configure(["orders"])

    publish(payload, "orders")
    [message] = server.drain("orders")

    assert message.body == body
    assert message.properties["content_type"] == content_type
    assert (message.exchange, message.routing_key) == ("", "orders")


def test_properties_arrive(server, configure):
    configure(["orders"])

    returned = publish(
        b"{}",
        "orders",
        message_id="m-1",
        correlation_id="c-1",
        reply_to="answers",
        content_type="application/json",
        content_encoding="utf-8",
        expiration=90.5,
        priority=3,
        timestamp=datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        message_type="order.created",
        app_id="checkout",
    )
    [message] = server.drain("orders")

    assert returned == "m-1"
    assert message.properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "message_id": "m-1",
        "correlation_id": "c-1",
        "reply_to": "answers",
        "expiration": 90.5,
        "priority": 3,
        "timestamp": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        "message_type": "order.created",
        "persist": True,
        "app_id": "checkout",
    }


class Renaming(BaseMiddleware):
    async def publish_scope(self, call_next, command):
        command.message_options["app_id"] = f"{command.message_options['app_id']}-renamed"
        return await call_next(command)


@pytest.mark.parametrize(
    ("options", "given", "expected"),
    [
        ({}, None, "faststream_django"),
        ({"app_id": None}, None, "faststream_django"),
        ({"app_id": "shop"}, None, "shop"),
        ({"app_id": "shop"}, "checkout", "checkout"),
        ({"app_id": "shop", "middlewares": [BaseMiddleware]}, None, "shop"),
        ({"app_id": "shop", "middlewares": [Renaming]}, None, "shop-renamed"),
    ],
)
def test_app_id_is_that_of_the_call_else_of_the_options(server, configure, options, given, expected):
    configure(["orders"], OPTIONS=options)

    publish({}, "orders", app_id=given)
    publish_many([{}], "orders", app_id=given)

    assert [each.properties["app_id"] for each in server.drain("orders")] == [expected] * 2


def test_returned_id_is_the_id_of_the_message_and_its_correlation_id(server, configure):
    configure(["orders"])

    message_id = publish({}, "orders")
    [message] = server.drain("orders")

    assert message.properties["message_id"] == message_id
    assert message.properties["correlation_id"] == message_id


def test_message_may_be_transient(server, configure):
    configure(["orders"])

    publish({}, "orders", persist=False)
    [message] = server.drain("orders")

    assert message.properties["persist"] is False


@pytest.mark.parametrize(
    "value",
    ["text", 1, 2**40, -1, True, False, None, [1, "a", [None]], {"a": {"b": 1}}],
    ids=repr,
)
def test_header_arrives_as_it_was(server, configure, value):
    configure(["orders"])

    publish({}, "orders", headers={"h": value})
    [message] = server.drain("orders")

    assert message.headers == {"h": value}
    assert isinstance(message.headers["h"], type(value))


def test_bytes_in_headers_arrive(server, configure):
    configure(["orders"])

    publish({}, "orders", headers={"h": b"\xff\x00", "list": [b"x"]})
    [message] = server.drain("orders")

    assert message.headers == {"h": b"\xff\x00", "list": [b"x"]}


def test_messages_lie_in_the_order_of_the_calls(server, configure):
    configure(["orders"])

    for number in range(20):
        publish(str(number), "orders")

    assert bodies(server, "orders") == [str(number).encode() for number in range(20)]


def test_async_door_leads_to_the_same_queue(server, configure):
    configure(["orders"])

    asyncio.run(apublish({"id": 1}, "orders"))

    assert bodies(server, "orders") == [b'{"id":1}']


# Routing


def test_default_exchange_routes_by_the_name_of_the_queue(server, configure):
    configure(["a", "b"])

    publish("x", routing_key="a")

    assert (server.count("a"), server.count("b")) == (1, 0)


def test_direct_exchange_routes_by_the_equal_key(server, configure):
    configure(
        {"a": {"bind": {"events": ["one", "two"]}}, "b": {"bind": {"events": "two"}}},
        {"events": {"type": "direct"}},
    )

    publish("1", exchange="events", routing_key="one")
    publish("2", exchange="events", routing_key="two")

    assert bodies(server, "a") == [b"1", b"2"]
    assert bodies(server, "b") == [b"2"]


def test_fanout_exchange_routes_to_all(server, configure):
    configure(
        {"a": {"bind": {"events": "ignored"}}, "b": {"bind": {"events": ""}}},
        {"events": {"type": "fanout"}},
    )

    publish("x", exchange="events", routing_key="any")

    assert (server.count("a"), server.count("b")) == (1, 1)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("order.*", ["order.created", "order."], ["order", "order.a.b", "x.order.a"]),
        ("order.#", ["order", "order.a", "order.a.b"], ["orders", "x.order"]),
        ("#", ["", "a", "a.b"], []),
        ("*", ["a"], ["", "a.b"]),
        ("#.eu", ["eu", "a.eu", "a.b.eu"], ["eu.a"]),
        ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "a.z.b"]),
        ("a.*.#.z", ["a.b.z", "a.b.c.z"], ["a.z"]),
        ("#.b.#", ["b", "a.b", "b.c", "a.b.b.c"], ["a.c"]),
        ("*.*", ["a.b", "."], ["a", "a.b.c"]),
        ("", [""], ["a"]),
    ],
)
def test_topic_exchange_routes_by_the_pattern(server, configure, pattern, matching, other):
    configure({"a": {"bind": {"events": pattern}}}, {"events": {"type": "topic"}})

    for key in [*matching, *other]:
        publish(key, exchange="events", routing_key=key, mandatory=False)

    assert bodies(server, "a") == [key.encode() for key in matching]


@pytest.mark.parametrize(
    ("arguments", "matching", "other"),
    [
        ({"a": 1, "b": "x"}, [{"a": 1, "b": "x", "c": 2}], [{"a": 1}, {"a": 2, "b": "x"}]),
        ({"x-match": "all", "a": 1}, [{"a": 1}], [{}, {"a": 2}]),
        ({"x-match": "any", "a": 1, "b": 2}, [{"a": 1}, {"b": 2}], [{"a": 2}, {}]),
        ({"a": None}, [{"a": 1}, {"a": "x"}], [{"b": 1}]),
        ({"a": 1}, [{"a": 1}], [{"a": "1"}, {"a": True}]),
        ({"a": 2.0}, [{"a": 2.0}], [{"a": "2"}, {"a": 2.5}]),
        ({"a": [1, "x"]}, [{"a": [1, "x"]}], [{"a": [1.0, "x"]}, {"a": [1]}, {"a": "x"}]),
        ({"a": {"b": 1}}, [{"a": {"b": 1}}], [{"a": {"b": 1.0}}, {"a": {}}]),
        ({"a": "x"}, [{"a": "x"}], [{"a": "y"}, {"a": None}]),
        ({"a": True}, [{"a": True}], [{"a": 1}]),
        ({"x-kind": 1, "a": 1}, [{"a": 1}, {"a": 1, "x-kind": 2}], [{"x-kind": 1}]),
        ({"x-match": "all-with-x", "x-kind": 1}, [{"x-kind": 1}], [{"x-kind": 2}, {}]),
        ({"x-match": "any-with-x", "x-kind": 1, "a": 1}, [{"a": 1}, {"x-kind": 1}], [{}]),
    ],
)
def test_headers_exchange_routes_by_the_headers(server, configure, arguments, matching, other):
    configure({"a": {"bind": {"events": [{"arguments": arguments}]}}}, {"events": {"type": "headers"}})

    for headers in [*matching, *other]:
        publish({}, exchange="events", headers=headers, mandatory=False)

    assert [message.headers for message in server.drain("a")] == matching


@pytest.mark.parametrize(
    ("wanted", "value", "matches"),
    [
        (2, 2.0, False),
        (2.0, 2, False),
        (datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600, True),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), False),
        (1_767_225_600_000, datetime(2026, 1, 1, tzinfo=UTC), True),
    ],
)
def test_numbers_match_headers_as_in_rabbitmq_4(server, configure, wanted, value, matches):
    if isinstance(server, Rabbit) and os.environ.get("RABBITMQ") != "4":
        pytest.skip("RabbitMQ 3 compares numbers of different kinds and timestamps in another way.")
    configure({"a": {"bind": {"events": [{"arguments": {"a": wanted}}]}}}, {"events": {"type": "headers"}})

    publish({}, exchange="events", headers={"a": value}, mandatory=False)

    assert server.count("a") == matches


@pytest.mark.parametrize("exchange_type", ["direct", "topic"])
def test_copies_go_to_the_keys_of_two_headers(server, configure, exchange_type):
    configure(
        {name: {"bind": {"events": name}} for name in "abcd"},
        {"events": {"type": exchange_type}},
    )

    publish("x", exchange="events", routing_key="a", headers={"CC": ["b", "a"], "BCC": ["c"], "n": 1})

    for name in "abc":
        (arrived,) = server.drain(name)
        assert (arrived.routing_key, arrived.headers) == ("a", {"CC": ["b", "a"], "n": 1})
    assert server.count("d") == 0


def test_copies_reach_queues_by_the_default_exchange(server, configure):
    configure(["a", "b"])

    publish("1", "a", headers={"CC": ["b"]})
    publish("2", "nowhere", headers={"BCC": ["b", "nowhere either"]})
    with pytest.raises(MessageUnroutable):
        publish("3", "nowhere", headers={"CC": ["nowhere either"]})

    assert (bodies(server, "a"), bodies(server, "b")) == ([b"1"], [b"1", b"2"])


def test_dead_letter_goes_where_its_copies_went(server, configure):
    arguments = {"x-message-ttl": 20, "x-dead-letter-exchange": "dlx"}
    configure(
        {"late": {"arguments": arguments}, **{name: {"bind": {"dlx": name}} for name in "ab"}},
        {"dlx": {"type": "direct"}},
    )

    publish("x", "late", headers={"CC": ["a"], "BCC": ["b"]}, mandatory=False)

    # a and b got copies at once, and get the dead letter too.
    assert eventually(lambda: (server.count("late"), server.count("a"), server.count("b")) == (0, 2, 2))
    _, dead = server.drain("a")
    assert dead.headers["CC"] == ["a"]
    assert dead.headers["x-death"][0]["routing-keys"] == ["late", "a"]


def test_queue_that_nobody_uses_expires(server, configure):
    configure({"short-lived": {"arguments": {"x-expires": 200}}, "orders": {}})
    publish("x", "short-lived")

    def is_gone():
        try:
            publish("x", "short-lived")
        except MessageUnroutable:
            return True

    assert eventually(is_gone)  # what is published is no use of it
    assert not server.has_queue("short-lived")
    publish("next", "orders")
    assert bodies(server, "orders") == [b"next"]


def test_exchange_feeds_another_exchange(server, configure):
    configure(
        {"a": {"bind": {"orders": "#"}}},
        {"all": {"type": "topic"}, "orders": {"type": "topic", "bind": {"all": "order.#"}}},
    )

    publish("1", exchange="all", routing_key="order.created")
    publish("2", exchange="all", routing_key="user.created", mandatory=False)

    assert bodies(server, "a") == [b"1"]


def test_two_matching_bindings_deliver_once(server, configure):
    configure({"a": {"bind": {"events": ["order.*", "#"]}}}, {"events": {"type": "topic"}})

    publish("x", exchange="events", routing_key="order.created")

    assert server.count("a") == 1


def test_exchange_of_the_broker_can_be_used(server, configure):
    configure({"a": {"bind": {"amq.topic": "order.*"}}})

    publish("x", exchange="amq.topic", routing_key="order.created")

    assert server.count("a") == 1


def test_alternate_exchange_takes_what_is_unroutable(server, configure):
    configure(
        {"rest": {"bind": {"spare": ""}}},
        {
            "spare": {"type": "fanout"},
            "events": {"type": "direct", "arguments": {"alternate-exchange": "spare"}},
        },
    )

    publish("x", exchange="events", routing_key="nowhere")

    assert server.count("rest") == 1


# Refusals; the next publish works at once


def test_unroutable_message_is_an_error(server, configure):
    configure(["orders"])

    with pytest.raises(MessageUnroutable) as raised:
        publish("x", "unknown")
    publish("next", "orders")

    assert raised.value.maybe_sent is False
    assert raised.value.broker == "default"
    assert "'unknown'" in str(raised.value)
    assert bodies(server, "orders") == [b"next"]


def test_exchange_without_a_matching_binding_is_an_error(server, configure):
    configure({"orders": {"bind": {"events": "one"}}}, {"events": {"type": "direct"}})

    with pytest.raises(MessageUnroutable, match=r"'events'.*'two'"):
        publish("x", exchange="events", routing_key="two")
    publish("next", exchange="events", routing_key="one")

    assert bodies(server, "orders") == [b"next"]


def test_missing_exchange_is_an_error_that_names_it(server, configure):
    configure(["orders"])

    with pytest.raises(MessageUnroutable, match="NOT_FOUND - no exchange 'unknown'") as raised:
        publish("x", exchange="unknown")
    publish("next", "orders")

    assert raised.value.maybe_sent is False
    assert bodies(server, "orders") == [b"next"]


def test_unroutable_message_is_dropped_if_it_is_not_mandatory(server, configure):
    configure(["orders"])

    publish("x", "unknown", mandatory=False)
    publish("next", "orders")

    assert bodies(server, "orders") == [b"next"]


def test_full_queue_refuses(server, configure):
    configure({"full": FULL, "orders": {}})
    publish("1", "full")

    with pytest.raises(MessageRejected) as raised:
        publish("2", "full")
    publish("next", "orders")

    assert raised.value.maybe_sent is False
    assert bodies(server, "full") == [b"1"]
    assert bodies(server, "orders") == [b"next"]


def test_queue_that_is_full_for_one_message_keeps_the_copies_of_others(server, configure):
    configure(
        {"full": {**FULL, "bind": {"events": ""}}, "free": {"bind": {"events": ""}}},
        {"events": {"type": "fanout"}},
    )
    publish("1", exchange="events")

    with pytest.raises(MessageRejected) as raised:
        publish("2", exchange="events")

    assert raised.value.maybe_sent

    assert bodies(server, "full") == [b"1"]
    assert bodies(server, "free") == [b"1", b"2"]


def test_full_queue_drops_its_oldest_by_default(server, configure):
    configure({"last": {"arguments": {"x-max-length": 2}}})

    for body in ("1", "2", "3"):
        publish(body, "last")

    assert bodies(server, "last") == [b"2", b"3"]


def test_dropped_message_goes_to_the_dead_letter_exchange(server, configure):
    arguments = {"x-max-length": 1, "x-dead-letter-exchange": "dlx"}
    configure(
        {"last": {"arguments": arguments}, "dead": {"bind": {"dlx": ""}}},
        {"dlx": {"type": "fanout"}},
    )

    publish("1", "last")
    publish("2", "last")
    [dead] = eventually(lambda: server.drain("dead"))

    assert (dead.body, dead.exchange, dead.routing_key) == (b"1", "dlx", "last")
    [death] = dead.headers["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == ("last", "maxlen", 1)
    assert (death["exchange"], death["routing-keys"]) == ("", ["last"])
    assert dead.headers["x-first-death-queue"] == "last"
    assert dead.headers["x-first-death-reason"] == "maxlen"
    assert dead.headers["x-first-death-exchange"] == ""


def test_expired_message_goes_to_the_dead_letter_exchange(server, configure):
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    configure({"delay": {"arguments": arguments}, "dead": {}})

    publish("x", "delay", expiration=0.05)
    [dead] = eventually(lambda: server.drain("dead"))

    assert (dead.body, dead.routing_key) == (b"x", "dead")
    assert dead.properties["expiration"] is None
    [death] = dead.headers["x-death"]
    assert (death["queue"], death["reason"]) == ("delay", "expired")
    assert death["original-expiration"] == "50"


def eventually(look):
    """Look until something is there: a dead letter travels after the confirm."""
    deadline = datetime.now(tz=UTC).timestamp() + 5
    while not (found := look()) and datetime.now(tz=UTC).timestamp() < deadline:
        pass
    return found


# Many


def test_many_messages_arrive_in_order(server, configure):
    configure(["orders"])

    count = publish_many((str(number) for number in range(500)), "orders")

    assert count == 500
    assert bodies(server, "orders") == [str(number).encode() for number in range(500)]


def test_many_messages_through_the_async_door(server, configure):
    configure(["orders"])

    count = asyncio.run(apublish_many(["1", "2"], "orders"))

    assert count == 2
    assert bodies(server, "orders") == [b"1", b"2"]


def test_failed_messages_of_many_are_told_by_their_index(server, configure):
    configure({"full": {"arguments": {"x-max-length": 2, "x-overflow": "reject-publish"}}})

    with pytest.raises(BulkPublishError) as raised:
        publish_many(["0", "1", "2", "3"], "full")

    assert raised.value.confirmed == 2
    assert sorted(raised.value.errors) == [2, 3]
    assert {type(error) for error in raised.value.errors.values()} == {MessageRejected}
    assert bodies(server, "full") == [b"0", b"1"]


def test_many_unroutable_messages_are_told_each(server, configure):
    configure(["orders"])

    with pytest.raises(BulkPublishError) as raised:
        publish_many(["0", "1"], "unknown")
    publish("next", "orders")

    assert raised.value.confirmed == 0
    assert {type(error) for error in raised.value.errors.values()} == {MessageUnroutable}
    assert bodies(server, "orders") == [b"next"]


# Declaring


def test_settings_are_declared_on_connect(server, configure):
    configure(["orders"])

    publish("x", "orders")

    assert server.has_queue("orders")


def test_declaring_again_as_it_is_changes_nothing(server, configure):
    server.declare_queue("orders")
    configure(["orders"])

    publish("x", "orders")

    assert server.count("orders") == 1


def test_nothing_is_declared_when_told_so(server, configure):
    configure({"unknown": {}, "orders": {}}, DECLARE=False)
    server.declare_queue("orders")

    with pytest.raises(MessageUnroutable):
        publish("x", "unknown")
    publish("x", "orders")

    assert not server.has_queue("unknown")
    assert server.count("orders") == 1


def test_passive_declaration_creates_nothing_and_says_what_is_missing(server, configure, caplog):
    configure({"unknown": {}, "orders": {}}, DECLARE="passive")
    server.declare_queue("orders", **{"x-max-length": 5})

    publish("x", "orders")
    with pytest.raises(MessageUnroutable, match="NOT_FOUND - no queue 'unknown'"):
        publish("x", "unknown")

    assert not server.has_queue("unknown")
    assert "NOT_FOUND - no queue 'unknown'" in caplog.text


def test_other_arguments_are_logged_and_publishing_goes_on(server, configure, caplog):
    server.declare_queue("orders", **{"x-max-length": 5})
    configure(["orders", "others"])

    publish("x", "orders")
    publish("y", "others")

    assert "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'orders'" in caplog.text
    assert bodies(server, "orders") == [b"x"]
    assert bodies(server, "others") == [b"y"]


def test_exchange_of_another_type_is_logged_and_publishing_goes_on(server, configure, caplog):
    configure(["orders"], {"events": {"type": "topic"}})
    publish("x", "orders")
    configure(["orders"], {"events": {"type": "fanout"}})

    publish("x", "orders")

    assert "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'events'" in caplog.text
    assert server.count("orders") == 2
