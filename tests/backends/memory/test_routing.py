from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pamqp.commands import Basic

from faststream_django.backends.memory.refusals import ServerRefused
from faststream_django.backends.memory.routing import matches_headers, matches_topic


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
