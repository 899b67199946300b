"""A message and its row say the same, whatever is in it."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from faststream_django import Message
from faststream_django.outbox.rows import aged, decode_properties, encode_properties

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def there_and_back(message):
    row = {name: getattr(message, name) for name in ("body", "exchange", "routing_key", "message_id")}
    text = encode_properties(message)
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    return Message(**row, expiration=message.expiration, **decode_properties(text))


@pytest.mark.parametrize(
    "value",
    [
        "text",
        "é 你好 \U0001f600",
        'quotes " and \\ and / and \n',
        "",
        True,
        False,
        None,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        0.1,
        1e308,
        -0.0,
        Decimal("1.50"),
        Decimal("-0.001"),
        Decimal(123456789),
        NOW,
        NOW.astimezone(timezone(timedelta(hours=5, minutes=30))),
        b"",
        bytes(range(256)),
        bytearray(b"\x00\xff"),
        [],
        {},
        [1, "a", None, [2.5, [b"x"]], {"k": Decimal(1)}],
        {"a": {"b": {"c": [NOW, b"\x00"]}}},
        {"~": "tag"},
        {"~": "datetime", "v": "not one"},
        {"~": "table", "v": []},
        {"v": 1},
    ],
    ids=repr,
)
def test_header_comes_back_as_it_was(value):
    message = Message.encode("x", "orders", headers={"h": value, "other": 1})

    back = there_and_back(message)

    assert back == message
    assert type(back.headers["h"]) is type(message.headers["h"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": 0},
        {"priority": 255},
        {"persist": False},
        {"mandatory": False},
        {"message_type": "order.created"},
        {"reply_to": "answers"},
        {"correlation_id": "c", "message_id": "m"},
        {"content_type": "application/x", "content_encoding": "gzip"},
        {"app_id": "shop"},
        {"timestamp": NOW},
        {"timestamp": 0},
        {"expiration": 60},
        {"expiration": timedelta(milliseconds=1)},
        {"routing_key": "other"},
    ],
    ids=repr,
)
def test_property_comes_back_as_it_was(options):
    message = Message.encode(b"\x00\xff", "orders", **options)

    assert there_and_back(message) == message


def test_every_field_of_a_message_is_somewhere():
    """One that is added later must be in the row as well."""
    message = Message.encode(
        *("x", "orders"),
        headers={"a": 1},
        correlation_id="c",
        reply_to="r",
        content_type="t/t",
        content_encoding="gzip",
        expiration=1,
        priority=1,
        timestamp=NOW,
        message_type="m",
        persist=False,
        mandatory=False,
        app_id="a",
    )

    columns = {"body", "exchange", "routing_key", "message_id", "expiration"}
    assert {each.name for each in fields(Message)} == columns | json.loads(encode_properties(message)).keys()


def test_properties_that_are_unknown_here_are_left_out():
    """A later version may have written them, before a rollback of the deployment."""
    message = Message.encode("x", "orders", priority=3)
    text = json.dumps({**json.loads(encode_properties(message)), "invented_later": {"~": "bytes", "v": ""}})

    assert decode_properties(text) == decode_properties(encode_properties(message))


def test_message_grows_old():
    message = Message.encode("x", "orders", expiration=10)

    assert aged(message, 4).expiration == 6
    assert aged(message, 10) is None
    assert aged(Message.encode("x", "orders"), 1e9).expiration is None
