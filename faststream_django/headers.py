"""The headers of a message: a table that the driver is known to encode, within the limits."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from types import NoneType
from typing import Any, NoReturn

from faststream_django.exceptions import InvalidMessage
from faststream_django.properties import kind_of, short_text

__all__ = ["as_headers"]

MAX_ENTRIES = 100
MAX_BYTES = 65_536
MAX_NAME_BYTES = 128  # pamqp cuts a longer name
MAX_DEPTH = 32


def as_headers(headers: Any) -> dict[str, Any]:
    """Return a deep copy that the driver is known to encode, within the limits."""
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


_IMMUTABLE = frozenset({str, int, bool, NoneType, Decimal, datetime})


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
    if isinstance(value, dict):
        return _copy_table(value, place, depth + 1)
    if isinstance(value, list):
        return [_copy_value(item, f"{place}[{n}]", depth + 1) for n, item in enumerate(value)]
    if isinstance(value, bytearray):
        return bytearray(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidMessage(f"{place} is NaN or infinite; pass None or a str")
    return value


def _header_name(place: str, name: Any) -> str:
    if type(name) is str and name.isascii() and name.isprintable() and 0 < len(name) <= 128:
        return name
    if name == "":
        raise InvalidMessage(f"{place} has an entry without a name; name it")
    shown = reprlib.repr(name) if isinstance(name, str) else kind_of(name)
    return short_text(f"the name {shown} in {place}", name, MAX_NAME_BYTES)


def _check_copies_to(headers: dict[str, Any]) -> None:
    # RabbitMQ also routes by these two and closes the channel when one is not an array.
    for name in ("CC", "BCC"):
        keys = headers.get(name, [])
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise InvalidMessage(f"headers[{name!r}] is special to RabbitMQ: pass a list of routing keys")


def _encoded_size(headers: dict[str, Any]) -> int:
    field_table, _ = _driver_encoders()
    try:
        return len(field_table(headers))
    except Exception:  # noqa: BLE001  # AttributeError, struct.error, whatever the driver raises
        # Its text quotes the value, so the error that follows has no cause.
        _refuse_header(headers)


def _refuse_header(headers: dict[str, Any]) -> NoReturn:
    unfit = [leaf for leaf in _leaves(headers, "headers") if not _is_encodable(leaf[1])]
    place, value = next(iter(unfit), ("headers", headers))
    raise InvalidMessage(f"{place} {_header_cure(value)}") from None


def _is_encodable(value: Any) -> bool:
    _, encode_value = _driver_encoders()
    try:
        encode_value(value)
    except Exception:  # noqa: BLE001  # as above
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
    (float, "does not fit single precision, which headers have; pass a str"),
    (Decimal, "does not fit 32 bits and a scale of 0 to 255; pass a str"),
    (datetime, "is before 1970; pass a str"),
    ((bytes, memoryview), "is bytes; decode it, or pass a bytearray"),
    ((tuple, set, frozenset), "is not a list; pass list(...)"),
)


def _header_cure(value: Any) -> str:
    for types, cure in _CURES:
        if isinstance(value, types):
            return cure
    return f"is {kind_of(value)}; pass str(...) of it"


@cache
def _driver_encoders() -> tuple[Callable[[Any], bytes], Callable[[Any], bytes]]:
    from pamqp.encode import encode_table_value, field_table  # with the driver only

    return field_table, encode_table_value
