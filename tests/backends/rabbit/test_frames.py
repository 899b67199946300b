"""The frames of a message are the bytes that pamqp makes of it."""

import dataclasses
import random
import string
from datetime import UTC, datetime
from decimal import Decimal

import pamqp.frame
import pytest
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from faststream_django.backends.rabbit.frames import publish_frames
from faststream_django.backends.rabbit.properties import amqp_properties
from faststream_django.messages import Message

FRAME_MAX = 131_072


def by_pamqp(message, channel, frame_max):
    publish = Basic.Publish(
        exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
    )
    header = ContentHeader(properties=amqp_properties(message), body_size=len(message.body))
    size = frame_max - 8
    bodies = [ContentBody(message.body[at : at + size]) for at in range(0, len(message.body), size)]
    return b"".join(pamqp.frame.marshal(frame, channel) for frame in (publish, header, *bodies))


EVERYTHING = {
    "exchange": "events",
    "routing_key": "order.größe",
    "headers": {
        "n": 1,
        "big": 2**40,
        "t": [True, None, "x"],
        "d": {"e": Decimal("1.5")},
        "b": bytearray(b"x"),
        "f": [0.1, {"g": 1e300}],
        "x": b"\xff",
    },
    "content_type": "application/x-own",
    "content_encoding": "gzip",
    "correlation_id": "c" * 255,
    "message_id": "ß",
    "reply_to": "answers",
    "expiration": 1.25,
    "priority": 9,
    "timestamp": datetime(2038, 1, 20, 12, 30, 15, 999_999, tzinfo=UTC),
    "message_type": "order.created",
    "persist": False,
    "mandatory": False,
    "app_id": "größe",
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_property_is_where_pamqp_puts_it(name):
    message = Message.encode(b"x", "orders", **{name: EVERYTHING[name]})

    assert publish_frames(message, 7, FRAME_MAX) == by_pamqp(message, 7, FRAME_MAX)


def test_all_properties_together_are_where_pamqp_puts_them():
    message = Message.encode({"id": 1}, **EVERYTHING)

    assert publish_frames(message, 65_535, FRAME_MAX) == by_pamqp(message, 65_535, FRAME_MAX)


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 8176, 8177, 20_000])
def test_body_is_cut_into_frames_of_the_agreed_size(size):
    message = Message.encode(bytes(size), "orders")

    assert publish_frames(message, 1, 4096) == by_pamqp(message, 1, 4096)


def test_random_messages_are_as_pamqp_makes_them():
    dice = random.Random(4)

    def text():
        return "".join(dice.choices(string.ascii_letters + "äöü€", k=dice.randint(1, 60)))

    for _ in range(500):
        options = {
            name: dice.choice([value, text()]) if name.endswith(("_id", "_type", "_to", "_key")) else value
            for name, value in EVERYTHING.items()
            if dice.random() < 0.5
        }
        message = Message.encode(dice.randbytes(dice.randint(0, 3000)), "orders", **options)

        assert publish_frames(message, 3, 1024) == by_pamqp(message, 3, 1024)


@pytest.mark.parametrize(
    "wrong",
    [
        {"routing_key": "k" * 256},
        {"exchange": "é" * 128},
        {"message_id": 5},
        {"correlation_id": None},
        {"priority": 256},
        {"priority": "high"},
        {"headers": {"x": object()}},
        {"timestamp": datetime(1960, 1, 1, tzinfo=UTC)},
        {"timestamp": "now"},
        {"body": "text"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_hand_made_message_that_has_no_frames_is_an_error(wrong):
    message = dataclasses.replace(Message.encode(b"x", "orders"), **wrong)

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the encoding raises becomes InvalidMessage
        publish_frames(message, 1, FRAME_MAX)
