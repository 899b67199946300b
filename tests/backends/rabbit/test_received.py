"""What is read of a message must be what aiormq and aio-pika would read."""

from datetime import UTC, datetime

import pamqp.frame
import pytest
from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from faststream_django.backends.rabbit.protocol import BODY, HEADER
from faststream_django.backends.rabbit.received import Arriving, Received, ReceivedMessage

MOMENT = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
EVERY_PROPERTY = {
    "content_type": "application/json",
    "content_encoding": "gzip",
    "headers": {"text": "ü", "number": 7, "list": [1, "two"], "table": {"a": None}, "at": MOMENT},
    "delivery_mode": 2,
    "priority": 3,
    "correlation_id": "correlation",
    "reply_to": "replies",
    "expiration": "1500",
    "message_id": "id",
    "timestamp": MOMENT,
    "message_type": "orders.created",
    "user_id": "guest",
    "app_id": "shop",
    "cluster_id": "",
}
# As aio-pika names the attributes of its message, private ones too.
ATTRIBUTES = [
    f"_{cls.__name__}{name}" if name.startswith("__") else name
    for cls in IncomingMessage.__mro__
    for name in getattr(cls, "__slots__", ())
    if name not in {"_loop", "_headers", "_IncomingMessage__channel", "__channel"}
]


def frames(properties, body=b"body"):
    header = ContentHeader(body_size=len(body), properties=Basic.Properties(**properties))
    deliver = Basic.Deliver("tag", 5, True, "exchange", "routing.key")
    parts = [deliver, header, *([ContentBody(body)] if body else [])]
    return [pamqp.frame.marshal(part, 1) for part in parts]


def read(deliver, header, *bodies):
    arriving = Arriving(deliver)
    is_complete = arriving.is_complete_with(HEADER, header)
    for body in bodies:
        assert not is_complete
        is_complete = arriving.is_complete_with(BODY, body)
    assert is_complete
    return arriving.received


def as_aio_pika(properties, body, *, no_ack):
    """Return the message that aiormq and aio-pika make of it."""
    deliver, header, *_ = (pamqp.frame.unmarshal(frame)[2] for frame in frames(properties, body))
    delivered = DeliveredMessage(delivery=deliver, header=header, body=body, channel=None)
    return IncomingMessage(delivered, no_ack=no_ack)


@pytest.mark.parametrize("no_ack", [False, True])
@pytest.mark.parametrize("body", [b"body", b""])
@pytest.mark.parametrize(
    "properties",
    [{}, EVERY_PROPERTY, *({name: value} for name, value in EVERY_PROPERTY.items())],
    ids=["none", "all", *EVERY_PROPERTY],
)
def test_message_is_the_one_of_aio_pika(properties, body, no_ack):
    expected = as_aio_pika(properties, body, no_ack=no_ack)

    message = ReceivedMessage(read(*frames(properties, body)), None, no_ack=no_ack)

    assert {name: getattr(message, name) for name in ATTRIBUTES} == {
        name: getattr(expected, name) for name in ATTRIBUTES
    }


def test_message_of_aiormq_is_the_same():
    deliver, header, _ = (pamqp.frame.unmarshal(frame)[2] for frame in frames(EVERY_PROPERTY))
    delivered = DeliveredMessage(delivery=deliver, header=header, body=b"body", channel=None)
    expected = as_aio_pika(EVERY_PROPERTY, b"body", no_ack=False)

    message = ReceivedMessage(Received.from_driver(delivered), None, no_ack=False)

    assert {name: getattr(message, name) for name in ATTRIBUTES} == {
        name: getattr(expected, name) for name in ATTRIBUTES
    }


def test_property_that_cannot_be_read_is_left_out_with_what_follows():
    deliver, header, body = frames({"content_type": "text/plain", "headers": {"a": 1}, "message_id": "id"})
    header = bytearray(header)
    header[header.index(b"\x01a") + 2] = ord("?")  # a type of value that AMQP does not have

    message = ReceivedMessage(read(deliver, bytes(header), body), None, no_ack=False)

    assert (message.body, message.content_type) == (b"body", "text/plain")
    assert (message.headers, message.message_id) == ({}, None)


def test_values_that_aio_pika_refuses_are_taken():
    deliver, header, body = frames({"expiration": "1500", "delivery_mode": 2})
    header = header.replace(b"\x02\x041500", b"\x07\x04soon")

    message = ReceivedMessage(read(deliver, header, body), None, no_ack=False)

    assert (message.delivery_mode, message.expiration) == (1, None)


@pytest.mark.parametrize("name", [b"tag", b"exchange", b"routing.key"])
def test_name_that_is_no_text_is_read_with_replacements(name):
    deliver, *content = frames({})
    broken = deliver.replace(name, b"\xff" + name[1:])

    received = read(broken, *content)

    assert "\ufffd" in f"{received.consumer_tag} {received.exchange} {received.routing_key}"


def test_exchange_with_any_name_is_read():
    """The driver checks names that it writes, and would check those that it reads."""
    deliver, *content = frames({})

    received = read(deliver.replace(b"exchange", b"ex?*!'<>"), *content)

    assert received.exchange == "ex?*!'<>"
