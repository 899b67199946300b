"""The headers of a message: a table that AMQP can carry, within the limits."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, NoReturn

from django.utils.functional import Promise

from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.properties import kind_of, short_text
from faststream_django.messages.tables import encode_table, encode_value

__all__ = ["as_headers"]

MAX_ENTRIES = 100
MAX_BYTES = 65_536
MAX_NAME_BYTES = 128
MAX_DEPTH = 32


def as_headers(headers: Any) -> dict[str, Any]:
    """Return a deep copy that AMQP can carry, within the limits.

    Members of an Enum and lazy strings become what they are in a body: their value, their text.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise InvalidMessage(f"headers is {kind_of(headers)}; pass a dict")
    if len(headers) > MAX_ENTRIES:
        raise InvalidMessage(
            f"headers has {len(headers)} entries, and {MAX_ENTRIES} are allowed; put data in the body"
        )
    copy = _copy_table(headers, "headers", 1)
    _check_copies_to(copy)
    size = _encoded_size(copy)
    if size > MAX_BYTES:
        raise InvalidMessage(
            f"headers has {size:,} bytes, and {MAX_BYTES:,} are allowed; put data in the body"
        )
    return copy


_IMMUTABLE = frozenset({str, int, bool, NoneType, Decimal, datetime, bytes})


def _copy_table(table: Mapping[Any, Any], place: str, depth: int) -> dict[str, Any]:
    copy = {}
    for name, value in table.items():
        plain_name = _header_name(place, name)
        copy[plain_name] = (
            value if type(value) in _IMMUTABLE else _copy_value(value, f"{place}[{plain_name!r}]", depth)
        )
    return copy


def _copy_value(value: Any, place: str, depth: int) -> Any:
    if depth > MAX_DEPTH:  # a cycle ends here too
        raise InvalidMessage(f"headers are nested deeper than {MAX_DEPTH}; flatten them")
    # type(), because isinstance() would ask a lazy object for its class and so evaluate it.
    kind = type(value)
    if issubclass(kind, Enum):
        return _copy_value(value.value, place, depth + 1)
    if issubclass(kind, dict):
        return _copy_table(value, place, depth + 1)
    if issubclass(kind, list):
        return [_copy_value(item, f"{place}[{n}]", depth + 1) for n, item in enumerate(value)]
    return _plain(value, kind, place)


def _plain(value: Any, kind: type, place: str) -> Any:
    if issubclass(kind, Promise):
        return str(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, bytearray):
        return bytes(value)
    if issubclass(kind, float) and not math.isfinite(value):
        raise InvalidMessage(f"{place} is NaN or infinite; pass None or a str")
    return value


def _header_name(place: str, name: Any) -> str:
    if type(name) is str and name.isascii() and name.isprintable() and 0 < len(name) <= 128:
        return name
    if name == "":
        raise InvalidMessage(f"{place} has an entry without a name; name it")
    if not isinstance(name, str):
        raise InvalidMessage(f"{place} has a name that is {kind_of(name)}; pass a str")
    return short_text(f"the name {reprlib.repr(name)} in {place}", name, MAX_NAME_BYTES)


def _check_copies_to(headers: dict[str, Any]) -> None:
    # RabbitMQ also routes by these two and closes the channel when one is not an array.
    for name in ("CC", "BCC"):
        keys = headers.get(name, [])
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise InvalidMessage(f"headers[{name!r}] is special to RabbitMQ: pass a list of routing keys")


def _encoded_size(headers: dict[str, Any]) -> int:
    try:
        return len(encode_table(headers))
    except (TypeError, ValueError):
        _refuse_header(headers)


def _refuse_header(headers: dict[str, Any]) -> NoReturn:
    unfit = [leaf for leaf in _leaves(headers, "headers") if not _is_encodable(leaf[1])]
    place, value = next(iter(unfit), ("headers", headers))
    raise InvalidMessage(f"{place} {_header_cure(value)}") from None


def _is_encodable(value: Any) -> bool:
    try:
        encode_value(value)
    except (TypeError, ValueError):
        return False
    return True


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{place}[{name!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{place}[{index}]")
    else:
        yield place, value


_CURES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "is not valid Unicode (it has a lone surrogate); replace it"),
    (int, "does not fit 64 bits; pass a str"),
    (Decimal, "does not fit 32 bits and a scale of 0 to 255; pass a str"),
    (datetime, "is before 1970; pass a str"),
    (memoryview, "is a memoryview; pass bytes(...)"),
    ((tuple, set, frozenset), "is not a list; pass list(...)"),
)


def _header_cure(value: Any) -> str:
    for types, cure in _CURES:
        if isinstance(value, types):
            return cure
    return f"is {kind_of(value)}; pass str(...) of it"
