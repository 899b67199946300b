import textwrap
from unittest.mock import ANY

import pytest
from faststream.rabbit import RabbitExchange, RabbitQueue

from faststream_django import publish
from faststream_django.testing import CapturedMessage


@pytest.fixture
def varied(messages):
    publish({"id": 1}, "orders", headers={"tenant": "a", "n": 1})
    publish({"id": 2}, "orders", broker="other")
    publish({"id": 3}, "order.created", "events")
    publish({"id": 4}, "orders", "events")
    return messages


@pytest.mark.parametrize(
    ("destination", "options", "expected"),
    [
        ((), {}, [1, 2, 3, 4]),
        (("orders",), {}, [1, 2]),
        (("orders",), {"broker": "other"}, [2]),
        (("orders", "events"), {}, [4]),
        ((), {"exchange": "events"}, [3, 4]),
        ((), {"routing_key": "orders"}, [1, 2, 4]),
        ((), {"exchange": "events", "routing_key": "order.created"}, [3]),
        ((), {"exchange": ""}, [1, 2]),
        ((RabbitQueue("orders"),), {}, [1, 2]),
        ((), {"exchange": RabbitExchange("events")}, [3, 4]),
        (("nothing",), {}, []),
    ],
)
def test_to_selects_by_destination(varied, destination, options, expected):
    assert [each.body["id"] for each in varied.to(*destination, **options)] == expected


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"count": 2},
        {"body": {"id": 2}, "count": 1},
        {"body": ANY},
        {"body": {"id": ANY}, "count": 2},
        {"headers": {"tenant": "a"}, "count": 1},
        {"body": {"id": 7}, "count": 0},
    ],
)
def test_assert_published_returns_what_it_found(varied, question):
    found = varied.assert_published("orders", **question)

    assert len(found) == question.get("count", 2)
    assert all(isinstance(each, CapturedMessage) for each in found)


@pytest.mark.parametrize(
    "question",
    [
        {"count": 1},
        {"count": 0},
        {"body": {"id": 3}},
        {"headers": {"tenant": "b"}},
        {"headers": {"absent": None}},
        {"broker": "nothing"},
    ],
)
def test_assert_published_fails(varied, question):
    with pytest.raises(AssertionError):
        varied.assert_published("orders", **question)


def test_a_body_may_be_asked_for_as_it_was_published(messages):
    from datetime import UTC, datetime
    from uuid import UUID

    payload = {"id": UUID(int=1), "at": datetime(2026, 1, 1, tzinfo=UTC)}
    publish(payload, "orders")

    assert messages.assert_published("orders", body=payload, count=1)
    assert messages.assert_published("orders", body=messages[0].body, count=1)


def test_a_body_that_is_not_what_its_content_type_says_can_be_asked_for(messages):
    publish(b"{", "orders", content_type="application/json")

    assert messages.assert_published("orders", body=b"{", count=1)
    assert "b'{'" in repr(messages)


def test_a_failed_assertion_lists_what_was_published(varied):
    with pytest.raises(AssertionError) as caught:
        varied.assert_published("order", body={"id": 1}, headers={"x": "y"}, count=2, broker="default")

    assert str(caught.value) == textwrap.dedent(
        """\
        Expected 2 to queue 'order' of broker 'default' with body {'id': 1} with headers {'x': 'y'}; found 0.
        Published were 4:
          1. queue 'orders': {'id': 1} {'n': 1, 'tenant': 'a'}
          2. queue 'orders': {'id': 2}
          3. exchange 'events' with routing key 'order.created': {'id': 3}
          4. exchange 'events' with routing key 'orders': {'id': 4}"""
    )


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, "any destination"),
        ({"exchange": ""}, "any queue"),
        ({"exchange": "events"}, "exchange 'events'"),
        ({"routing_key": "k"}, "any destination with routing key 'k'"),
    ],
)
def test_a_failed_assertion_names_what_was_expected(messages, question, expected):
    with pytest.raises(AssertionError) as caught:
        messages.assert_published(**question)

    assert str(caught.value) == f"Expected at least 1 to {expected}; found 0.\nNothing was published."


def test_the_repr_shows_the_messages_shortened(messages):
    publish({"text": "x" * 10_000}, "orders")

    assert repr(messages).startswith("<CapturedMessages [<CapturedMessage to queue 'orders': {'text': 'xxx")
    assert len(repr(messages)) < 300
