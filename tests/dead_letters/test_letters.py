"""What a dead letter says about itself, whoever wrote its headers."""

import datetime as dt

import pytest
from pamqp.commands import Basic

from faststream_django.backends.operating import QueuedMessage
from faststream_django.dead_letters.letters import Letter
from tests.dead_letters.buried import ERROR, described

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def letter(headers=None, body=b"{}", **properties):
    message = QueuedMessage(body=body, properties=Basic.Properties(headers=headers, **properties))
    return Letter(queue="orders", message=message)


def test_letter_of_the_worker_tells_everything():
    told = letter(described("orders", **{"faststream-failed-at": NOW}), message_id="m-1")

    assert told.id == "m-1"
    assert told.origin == "orders"
    assert (told.attempts, told.reason, told.error) == (5, "failed", ERROR)
    assert told.failed_at == NOW
    assert told.age(NOW + dt.timedelta(seconds=90)) == 90
    assert told.age(NOW - dt.timedelta(seconds=90)) == 0


def test_letter_of_rabbitmq_tells_what_rabbitmq_wrote():
    told = letter({"x-first-death-queue": "orders", "x-first-death-reason": "delivery_limit"})

    assert told.origin == "orders"
    assert told.reason == "delivery_limit"
    assert (told.attempts, told.error, told.failed_at, told.age(NOW)) == (0, "", None, None)


@pytest.mark.parametrize("value", [None, 7, b"orders", [], {}, True])
def test_headers_that_somebody_else_wrote_are_no_error(value):
    names = ("queue", "exchange", "routing-key", "reason", "error", "failed-at", "attempts")
    told = letter({f"faststream-{name}": value for name in names})

    assert told.origin is None
    assert (told.reason, told.error, told.failed_at) == ("", "", None)
    assert told.fresh_properties("orders").headers is None


def test_letter_without_id_has_a_name_that_lasts():
    """RabbitMQ counts in the headers of a quorum queue whenever somebody looks."""
    seen, again = letter({"tenant": "acme"}), letter({"tenant": "acme", "x-delivery-count": 3})

    assert seen.id == again.id
    assert seen.id.startswith("~")
    assert seen.id != letter({"tenant": "acme"}, body=b"[]").id
    assert seen.id != letter({"tenant": "other"}).id


def test_fresh_properties_are_those_of_the_publisher():
    headers = described("orders", **{"x-death": [{"queue": "orders"}], "CC": ["copy"], "x-delivery-count": 1})
    given = letter(
        headers,
        message_id="m-1",
        correlation_id="c-1",
        reply_to="answers",
        content_type="application/json",
        priority=3,
        timestamp=NOW,
        message_type="placed",
        app_id="shop",
        delivery_mode=2,
        expiration="5000",
        user_id="shop",
    )

    fresh = given.fresh_properties("orders")

    assert fresh.headers == {"tenant": "acme"}
    assert (fresh.expiration, fresh.user_id) == (None, None)
    kept = (
        "message_id",
        "correlation_id",
        "reply_to",
        "content_type",
        "priority",
        "timestamp",
        "delivery_mode",
    )
    assert all(getattr(fresh, name) == getattr(given.message.properties, name) for name in kept)
    assert given.message.properties.expiration == "5000"
    assert given.message.headers == headers


def test_what_came_through_an_exchange_keeps_its_way():
    """The worker restores it for Path() when it consumes the message from the queue of the header."""
    routed = {"faststream-exchange": "events", "faststream-routing-key": "order.placed.eu"}

    fresh = letter(described("orders", **routed)).fresh_properties("other")

    assert fresh.headers == {**routed, "faststream-queue": "other", "tenant": "acme"}


def test_repr_shows_nothing():
    assert "s3cret" not in repr(letter({"token": "s3cret"}, body=b"s3cret", message_id="s3cret"))
