"""Tables are the bytes that pamqp makes of them, but for floats in double precision and plain bytes."""

import math
import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from pamqp import decode, encode

from faststream_django.messages.tables import encode_table, encode_value

EDGES = [
    sign * 2**bits + step for bits in (0, 7, 8, 15, 16, 31, 32, 62) for sign in (1, -1) for step in (-1, 0, 1)
]


@pytest.mark.parametrize(
    "value",
    [
        *EDGES,
        2**63 - 1,
        -(2**63),
        True,
        False,
        None,
        "",
        "größe\n",
        bytearray(b"\xff\x00"),
        Decimal("-1.50"),
        Decimal("1E+3"),
        Decimal(2**31 - 1),
        datetime(2024, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=5))),
        datetime(2024, 1, 2),  # noqa: DTZ001
        [],
        [1, "two", [None, {"x": True}]],
        {},
        {"b": 1, "a": {"ö": [2**40]}},
    ],
    ids=repr,
)
def test_values_are_as_pamqp_makes_them(value):
    assert encode_value(value) == encode.encode_table_value(value)
    assert encode_table({"name": value}) == encode.field_table({"name": value})


@pytest.mark.parametrize("value", [0.1, 1_700_000_000.123456, 1e300, -0.0, 5e-324, math.pi])
def test_float_keeps_its_precision(value):
    assert decode.embedded_value(encode_value(value))[1] == value
    table = decode.field_table(encode_table({"a": value, "b": [value, {"c": value}]}))[1]
    assert table == {"a": value, "b": [value, {"c": value}]}


def test_bytes_are_a_byte_array():
    assert encode_value(b"\xff\x00") == encode.encode_table_value(bytearray(b"\xff\x00"))


def test_subclasses_are_encoded_as_what_they_are():
    class Number(int):
        pass

    class Text(str):
        __slots__ = ()

    assert encode_value(Number(5)) == encode_value(5)
    assert encode_value(Text("x")) == encode_value("x")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1},
        (1,),
        2**63,
        -(2**63) - 1,
        Decimal("NaN"),
        Decimal(2**31),
        Decimal("1E-256"),
        datetime(1960, 1, 1, tzinfo=UTC),
        "\ud800",
        {"n" * 129: 1},
        [[object()]],
    ],
    ids=lambda value: ascii(value).partition(" at 0x")[0],
)
def test_what_amqp_cannot_carry_is_an_error(value):
    with pytest.raises((TypeError, ValueError)):
        encode_value(value)


def test_the_layout_of_a_double_is_that_of_the_protocol():
    assert encode_table({"t": 0.5}) == b"\x00\x00\x00\x0b\x01td" + struct.pack(">d", 0.5)
