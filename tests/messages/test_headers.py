"""Headers are copied, and refused where the driver or RabbitMQ would choke on them."""

import collections
import datetime as dt
import decimal
import enum
import types
import uuid

import pytest
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from pamqp import decode

from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.headers import as_headers
from faststream_django.messages.tables import encode_table

ALLOWED = {
    "str": "héllo\nworld",
    "bool": True,
    "int": 2**63 - 1,
    "float": 1_700_000_000.123456,
    "large float": 1e300,
    "Decimal": decimal.Decimal("-1.50"),
    "datetime": dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    "None": None,
    "list": [1, "two", [3.0, None]],
    "dict": {"x": {"y": [1]}},
    "bytes": b"\xff",
    "bytearray": bytearray(b"\xff"),
}


def test_what_amqp_carries_is_allowed_and_arrives():
    headers = as_headers(ALLOWED)

    assert headers == ALLOWED
    assert decode.field_table(encode_table(headers))[1] == ALLOWED


class Colour(enum.Enum):
    RED = "red"


class Kind(str, enum.Enum):  # noqa: UP042  # its str() is not its value
    ORDER = "order"


class Level(enum.IntEnum):
    HIGH = 9


class Nested(enum.Enum):
    TABLE = {"inner": Colour.RED}  # noqa: RUF012


def test_enums_and_lazy_strings_are_encoded_as_in_bodies():
    given = {
        "plain": Colour.RED,
        "str": Kind.ORDER,
        "int": Level.HIGH,
        "dict": Nested.TABLE,
        "lazy": gettext_lazy("yes"),
        "safe": mark_safe("<b>"),
        "list": [Colour.RED, {"deep": gettext_lazy("yes")}],
        Kind.ORDER: 1,
    }

    headers = as_headers(given)

    assert headers == {
        "plain": "red",
        "str": "order",
        "int": 9,
        "dict": {"inner": "red"},
        "lazy": "yes",
        "safe": "<b>",
        "list": ["red", {"deep": "yes"}],
        "order": 1,
    }
    leaves = [headers["str"], headers["safe"], headers["lazy"], headers["int"], *headers]
    assert {type(leaf) for leaf in leaves} == {str, int}


@pytest.mark.parametrize("headers", [None, {}])
def test_no_headers_are_an_empty_dict(headers):
    assert as_headers(headers) == {}


@pytest.mark.parametrize("kind", [types.MappingProxyType, collections.OrderedDict, collections.UserDict])
def test_any_mapping_becomes_a_plain_dict(kind):
    headers = as_headers(kind({"a": collections.OrderedDict(b=1)}))

    assert (type(headers), type(headers["a"])) == (dict, dict)


def test_a_later_change_does_not_reach_the_copy():
    given = {"list": [1, {"a": 1}], "dict": {"b": [2]}, "bytes": bytearray(b"x"), "top": 1}

    copy = as_headers(given)
    given["list"][1]["a"] = given["top"] = None
    given["dict"]["b"].append(3)
    given["bytes"].extend(b"y")

    assert copy == {"list": [1, {"a": 1}], "dict": {"b": [2]}, "bytes": bytearray(b"x"), "top": 1}


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ("text", "headers is a str; pass a dict"),
        ([("a", 1)], "headers is a list; pass a dict"),
        ({"a": memoryview(b"x")}, "headers['a'] is a memoryview; pass bytes(...)"),
        ({"x": {"y": (1,)}}, "headers['x']['y'] is not a list; pass list(...)"),
        ({"x": [1, {"y": {2}}]}, "headers['x'][1]['y'] is not a list; pass list(...)"),
        ({"a": uuid.uuid4()}, "headers['a'] is a UUID; pass str(...) of it"),
        ({"a": dt.date(2024, 1, 2)}, "headers['a'] is a date; pass str(...) of it"),
        ({"a": object()}, "headers['a'] is an object; pass str(...) of it"),
        ({"a": 2**63}, "headers['a'] does not fit 64 bits; pass a str"),
        ({"a": float("nan")}, "headers['a'] is NaN or infinite; pass None or a str"),
        ({"a": [float("-inf")]}, "headers['a'][0] is NaN or infinite; pass None or a str"),
        ({"a": decimal.Decimal("NaN")}, "headers['a'] does not fit 32 bits"),
        ({"a": decimal.Decimal(2**31)}, "headers['a'] does not fit 32 bits"),
        ({"a": dt.datetime(1969, 1, 1, tzinfo=dt.UTC)}, "headers['a'] is before 1970; pass a str"),
        ({"a": "\ud800"}, "headers['a'] is not valid Unicode"),
        ({1: "a"}, "headers has a name that is an int; pass a str"),
        ({"x": {b"tenant": "a"}}, "headers['x'] has a name that is a bytes; pass a str"),
        ({"": 1}, "headers has an entry without a name; name it"),
        ({"x": {"": 1}}, "headers['x'] has an entry without a name; name it"),
        ({"a\r\nb": 1}, "the name 'a\\r\\nb' in headers has a control character"),
        ({"a\0": 1}, "the name 'a\\x00' in headers has a control character"),
        ({"a\u2028b": 1}, "the name 'a\\u2028b' in headers has a control character"),
        ({"x": {"\x7f": 1}}, "the name '\\x7f' in headers['x'] has a control character"),
        ({"n" * 129: 1}, "the name 'nnnnnnnnnnnn...nnnnnnnnnnnnn' in headers has 129 bytes"),
        ({"é" * 65: 1}, "the name 'éééééééééééé...ééééééééééééé' in headers has 130 bytes"),
        ({"\ud800": 1}, "the name '\\ud800' in headers is not valid Unicode"),
        ({"CC": "audit"}, "headers['CC'] is special to RabbitMQ: pass a list of routing keys"),
        ({"BCC": None}, "headers['BCC'] is special to RabbitMQ: pass a list of routing keys"),
        ({"CC": [1]}, "headers['CC'] is special to RabbitMQ: pass a list of routing keys"),
    ],
)
def test_bad_headers_are_refused_with_the_place_and_the_cure(headers, text):
    with pytest.raises(InvalidMessage) as caught:
        as_headers(headers)

    assert str(caught.value).startswith(text)


def test_the_text_does_not_quote_the_value_nor_does_a_cause():
    with pytest.raises(InvalidMessage) as caught:
        as_headers({"a": memoryview(b"4929-1234")})

    assert "4929" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_copies_of_a_message_may_be_routed_to_a_list_of_keys():
    assert as_headers({"CC": ["audit"]}) == {"CC": ["audit"]}


def test_names_of_128_bytes_and_100_entries_are_allowed():
    headers = {"é" * 64: 1} | {str(n): n for n in range(99)}

    assert as_headers(headers) == headers


def test_101_entries_are_refused():
    with pytest.raises(InvalidMessage, match="headers has 101 entries, and 100 are allowed"):
        as_headers({str(n): n for n in range(101)})


def test_64_kilobytes_are_allowed_and_one_byte_more_is_refused():
    # 4 bytes of table length, 1 + 1 of name, 1 of type, 4 of text length
    assert as_headers({"a": "x" * (65_536 - 11)})

    with pytest.raises(InvalidMessage, match="headers has 65,537 bytes, and 65,536 are allowed"):
        as_headers({"a": "x" * (65_536 - 10)})


def test_a_cycle_is_refused():
    headers = {"a": []}
    headers["a"].append(headers)

    with pytest.raises(InvalidMessage, match="headers are nested deeper than 32; flatten them"):
        as_headers(headers)
