"""AMQP field tables, such as the headers of a message: names and typed values as bytes.

pamqp writes every float in single precision and takes bytes only as a bytearray; everything else is
written as it does it. What RabbitMQ and its clients read is in their list of field types:
https://www.rabbitmq.com/amqp-0-9-1-errata#section_3
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import NoneType
from typing import Any

__all__ = ["encode_table", "encode_value"]

_length = struct.Struct(">I")
_integers = (
    (-(2**7), 2**7, struct.Struct(">cb"), b"b"),
    (-(2**15), 2**15, struct.Struct(">ch"), b"s"),
    (0, 2**16, struct.Struct(">cH"), b"u"),
    (-(2**31), 2**31, struct.Struct(">ci"), b"I"),
    (0, 2**32, struct.Struct(">cI"), b"i"),
    (-(2**63), 2**63, struct.Struct(">cq"), b"l"),
)
_decimal = struct.Struct(">cBi")
_double = struct.Struct(">cd")
_timestamp = struct.Struct(">cQ")


def encode_table(table: Mapping[str, Any]) -> bytes:
    """Return the bytes of a table; raise TypeError or ValueError for what AMQP cannot carry."""
    parts = []
    for name, value in sorted(table.items()):
        data = name.encode()
        if len(data) > 128:
            raise ValueError("a name in a table has at most 128 bytes")
        parts.append(b"%c%b%b" % (len(data), data, encode_value(value)))
    return _with_length(b"".join(parts))


def encode_value(value: Any) -> bytes:
    """Return the type and the bytes of a value; see encode_table()."""
    encode = _ENCODERS.get(type(value))
    if encode is None:
        encode = next((each for kind, each in _ENCODERS.items() if isinstance(value, kind)), None)
    if encode is None:
        raise TypeError(f"AMQP has no type for {type(value).__name__}")
    try:
        return encode(value)
    except struct.error:
        raise ValueError(f"the {type(value).__name__} is out of range") from None


def _integer(value: int) -> bytes:
    for low, end, layout, kind in _integers:
        if low <= value < end:
            return layout.pack(kind, value)
    raise ValueError("the int does not fit 64 bits")


def _scaled(value: Decimal) -> bytes:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError("the Decimal is not finite")  # noqa: TRY004 - its value is wrong, not its type
    scale = max(-exponent, 0)
    return _decimal.pack(b"D", scale, int(value.scaleb(scale)))


def _moment(value: datetime) -> bytes:
    if value.utcoffset() is None:
        value = value.replace(tzinfo=UTC)
    return _timestamp.pack(b"T", int(value.timestamp()))


def _array(value: list[Any]) -> bytes:
    return b"A" + _with_length(b"".join(map(encode_value, value)))


def _with_length(data: bytes | bytearray) -> bytes:
    return _length.pack(len(data)) + data


# In this order for their subclasses: a bool is an int.
_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    str: lambda value: b"S" + _with_length(str.encode(value)),
    bool: lambda value: b"t\x01" if value else b"t\x00",
    int: _integer,
    float: lambda value: _double.pack(b"d", value),
    NoneType: lambda _: b"V",
    dict: lambda value: b"F" + encode_table(value),
    list: _array,
    bytes: lambda value: b"x" + _with_length(value),
    bytearray: lambda value: b"x" + _with_length(value),
    datetime: _moment,
    Decimal: _scaled,
}
