import pytest
from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from faststream_django.messages import Message
from faststream_django.worker import headers as names
from faststream_django.worker.copies import lightened, restore

BACK = {names.QUEUE: "orders", names.EXCHANGE: "events", names.ROUTING_KEY: "order.placed"}


def delivered(headers, exchange="", routing_key="orders"):
    return IncomingMessage(
        DeliveredMessage(
            delivery=Basic.Deliver("tag", 1, exchange=exchange, routing_key=routing_key),
            header=ContentHeader(properties=Basic.Properties(headers=headers)),
            body=b"",
            channel=None,
        )
    )


def test_routing_of_the_publisher_is_restored():
    raw = delivered(BACK)

    restore(raw, "orders")

    assert (raw.exchange, raw.routing_key) == ("events", "order.placed")


@pytest.mark.parametrize(
    ("headers", "exchange", "routing_key"),
    [
        (BACK, "events", "orders"),
        (BACK, "", "other"),
        ({**BACK, names.QUEUE: "other"}, "", "orders"),
        ({**BACK, names.EXCHANGE: 5}, "", "orders"),
        ({names.QUEUE: "orders"}, "", "orders"),
    ],
)
def test_message_that_only_has_the_headers_of_another_is_left_alone(headers, exchange, routing_key):
    """As when a handler publishes with the headers that it got, or a publisher makes them up."""
    raw = delivered(headers, exchange, routing_key)

    restore(raw, "orders")

    assert (raw.exchange, raw.routing_key) == (exchange, routing_key)


def test_message_becomes_lighter_by_the_larger_half_of_its_headers_until_none_is_left():
    given = {names.REASON: "failed", "a": "x", "b": "x" * 20, "c": "x" * 10}
    message = Message(**{**MINIMUM, "headers": given})

    first = lightened(message)
    second = lightened(first)

    assert first.headers == {names.REASON: "failed", "a": "x", names.LEFT_OUT: ["b", "c"]}
    assert second.headers == {names.REASON: "failed", names.LEFT_OUT: ["b", "c", "a"]}
    assert lightened(second) is None


def test_headers_that_cannot_be_written_go_first():
    message = Message(**{**MINIMUM, "headers": {"large": "x" * 1000, "odd": object(), "n" * 200: 1}})

    assert lightened(message).headers == {"large": "x" * 1000, names.LEFT_OUT: ["odd", "n" * 100]}


MINIMUM = {
    name: getattr(Message.encode(b"x", "orders"), name)
    for name in ("body", "message_id", "correlation_id", "timestamp")
}
