"""Destinations and properties: what they become and what is refused."""

import datetime as dt
import decimal
import enum
import math
import uuid

import pytest
from django.utils.safestring import mark_safe
from faststream.rabbit import RabbitExchange, RabbitQueue

from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.properties import (
    as_destination,
    as_expiration,
    as_flag,
    as_identifier,
    as_priority,
    as_property,
    as_reply_to,
    as_timestamp,
)


class Names(str, enum.Enum):  # noqa: UP042  # its str() is not its value
    ORDERS = "orders"


@pytest.mark.parametrize(
    ("arguments", "destination"),
    [
        (("orders", None, ""), ("", "orders")),
        (("orders", "", ""), ("", "orders")),
        (("orders", None, "other"), ("", "other")),
        ((RabbitQueue("orders"), None, ""), ("", "orders")),
        ((RabbitQueue("q", routing_key="key"), None, ""), ("", "key")),
        (("", "events", ""), ("events", "")),
        (("", RabbitExchange("events"), "a.b"), ("events", "a.b")),
        (("q", RabbitExchange("events"), ""), ("events", "q")),
        (("{orders}", None, ""), ("", "{orders}")),
        (("[orders]", None, ""), ("", "[orders]")),
        ((Names.ORDERS, Names.ORDERS, ""), ("orders", "orders")),
        (("", None, "amq.rabbitmq.reply-to.g1h2"), ("", "amq.rabbitmq.reply-to.g1h2")),
        (("", None, "k" * 255), ("", "k" * 255)),
        (("", None, "ключ"), ("", "ключ")),
        (("", "e" * 127, ""), ("e" * 127, "")),
    ],
)
def test_destination(arguments, destination):
    result = as_destination(*arguments)

    assert result == destination
    assert [type(part) for part in result] == [str, str]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("", None, ""), "there is no destination; pass a queue, or an exchange"),
        (("", RabbitExchange(), ""), "there is no destination; pass a queue, or an exchange"),
        ((None, None, ""), "queue is None; pass a str or a RabbitQueue"),
        (
            (1, None, ""),
            "queue is an int; pass a str or a RabbitQueue. The message comes first: publish(mess",
        ),
        (({"id": 1}, None, ""), "queue is a dict; pass a str or a RabbitQueue. The message comes first"),
        ((b"{}", None, ""), "queue is a bytes; pass a str or a RabbitQueue. The message comes first"),
        (('{"id": 1}', None, ""), "queue is a text of JSON. The message comes first"),
        (("[1]", "", ""), "queue is a text of JSON. The message comes first"),
        (("q", {"id": 1}, ""), "exchange is a dict; pass a str or a RabbitExchange. The message comes first"),
        (("q", None, None), "routing_key is None; pass a str"),
        (("q", None, 5), "routing_key is an int; pass a str"),
        (("q", None, "k" * 256), "routing_key has 256 bytes, and 255 are allowed; shorten it"),
        (("q", None, "é" * 128), "routing_key has 256 bytes, and 255 are allowed; shorten it"),
        (("q" * 256, None, ""), "queue has 256 bytes, and 255 are allowed; shorten it"),
        (
            ("q\r\n", None, ""),
            "queue has a control character or another one that does not print (U+000D); remove it",
        ),
        (("q", None, "\x85"), "routing_key has a control character"),
        (("q", None, "\ud800"), "routing_key is not valid Unicode"),
        (("q", "e" * 128, ""), "exchange 'eeeeeeeeeeee...eeeeeeeeeeeee' is not a name"),
        (("q", "événements", ""), "exchange 'événements' is not a name"),
        (("q", "e\n", ""), "exchange 'e\\n' is not a name"),
    ],
)
def test_bad_destination(arguments, text):
    with pytest.raises(InvalidMessage) as caught:
        as_destination(*arguments)

    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("name", ["a b", "a-b_c.d:e@f#g,h/i+j", "é", "a'b", "e" * 127, "e" * 128])
def test_exchange_names_are_those_of_the_driver(name):
    from pamqp.commands import Basic

    def accepts(check):
        try:
            check()
        except ValueError:
            return False
        return True

    assert accepts(lambda: as_destination("", name, "")) == accepts(lambda: Basic.Publish(exchange=name))


@pytest.mark.parametrize(
    ("value", "result"),
    [(None, None), ("", None), ("x" * 255, "x" * 255), ("é", "é"), (mark_safe("x"), "x")],
)
def test_property(value, result):
    assert as_property("message_type", value) == result


@pytest.mark.parametrize("value", [1, b"x", "x\n", "x" * 256, "\ud800", uuid.uuid4()])
def test_bad_property(value):
    with pytest.raises(InvalidMessage, match=r"^message_type "):
        as_property("message_type", value)


@pytest.mark.parametrize(
    "character",
    [
        "\x85",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\u200f",
        "\u061c",
        "\u200b",
        "\ufeff",
        "\u00a0",
        "\ue000",
    ],
    ids=ascii,
)
def test_characters_that_do_not_print_are_refused_in_ids_and_names(character):
    """U+2028 ends a line for JavaScript and for str.splitlines(), U+202E turns the rest of it around."""
    for check in (as_identifier, as_property):
        with pytest.raises(InvalidMessage, match=rf"\(U\+{ord(character):04X}\); remove it$"):
            check("place", f"id{character}forged")
    for destination in ((f"q{character}", None, ""), ("", "e", f"k{character}")):
        with pytest.raises(InvalidMessage, match="has a control character"):
            as_destination(*destination)


@pytest.mark.parametrize("text", ["größe", "заказ", "注文", "a b", "🐇", "क्षि"])
def test_words_of_every_language_are_allowed_in_ids_and_names(text):
    assert as_identifier("message_id", text) == text


def test_an_identifier_may_be_a_uuid():
    value = uuid.uuid4()

    assert as_identifier("message_id", value) == str(value)


def test_the_pseudo_queue_for_replies_is_refused():
    """RabbitMQ closes the channel: no consumer of replies is on it."""
    with pytest.raises(InvalidMessage, match="needs a channel that consumes the replies"):
        as_reply_to("amq.rabbitmq.reply-to")


def test_other_reply_queues_are_allowed():
    assert as_reply_to("answers") == "answers"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        (1.5, 1.5),
        (4_294_967.295, 4_294_967.295),
        (dt.timedelta(minutes=2), 120.0),
    ],
)
def test_expiration_is_seconds(value, seconds):
    assert as_expiration(value) == seconds


def test_expiration_at_a_moment_is_the_time_left():
    moment = dt.datetime.now(dt.timezone(dt.timedelta(hours=5)))

    assert 50 < as_expiration(moment + dt.timedelta(seconds=60)) <= 60


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        4_294_967.296,
        10**400,
        math.nan,
        math.inf,
        True,
        "60",
        decimal.Decimal(1),
        dt.timedelta(seconds=-1),
        dt.timedelta.max,
        dt.datetime(2999, 1, 1),  # noqa: DTZ001
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    ],
)
def test_bad_expiration(value):
    with pytest.raises(InvalidMessage, match=r"^expiration is "):
        as_expiration(value)


@pytest.mark.parametrize("value", [None, 0, 255])
def test_priority(value):
    assert as_priority(value) == value


@pytest.mark.parametrize("value", [-1, 256, 1.0, "1", True])
def test_bad_priority(value):
    with pytest.raises(InvalidMessage, match=r"^priority is .*pass an int from 0 to 255"):
        as_priority(value)


@pytest.mark.parametrize(
    "value",
    [
        1_700_000_000,
        1_700_000_000.0,
        dt.datetime.fromtimestamp(1_700_000_000),  # noqa: DTZ006  # local time
        dt.datetime.fromtimestamp(1_700_000_000, dt.UTC),
        dt.datetime.fromtimestamp(1_700_000_000, dt.timezone(dt.timedelta(hours=-3))),
    ],
)
def test_timestamp_is_an_aware_datetime_in_utc(value):
    result = as_timestamp(value)

    assert result == dt.datetime.fromtimestamp(1_700_000_000, dt.UTC)
    assert result.tzinfo is dt.UTC


def test_timestamp_is_now_when_left_out():
    assert abs((as_timestamp(None) - dt.datetime.now(dt.UTC)).total_seconds()) < 60


@pytest.mark.parametrize(
    "value",
    [
        -1,
        1_700_000_000_000,
        10**400,
        math.nan,
        True,
        "2024-01-01",
        dt.timedelta(1),
        dt.datetime(1, 1, 1),  # noqa: DTZ001
        dt.datetime(1969, 12, 31, tzinfo=dt.UTC),
    ],
)
def test_bad_timestamp(value):
    with pytest.raises(InvalidMessage, match=r"^timestamp is "):
        as_timestamp(value)


@pytest.mark.parametrize(("value", "result"), [(None, True), (True, True), (False, False)])
def test_flag(value, result):
    assert as_flag("persist", value) is result


@pytest.mark.parametrize("value", [0, 1, "no"])
def test_bad_flag(value):
    with pytest.raises(InvalidMessage, match=r"^persist is an? .*; pass True or False"):
        as_flag("persist", value)
