"""Payloads become the bytes that FastStream makes, or an error that does not show them."""

import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import json
import math
import pathlib
import uuid
from typing import NamedTuple

import pydantic
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import models
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe
from fast_depends.pydantic import PydanticSerializer
from faststream.message import encode_message
from faststream.rabbit import RabbitQueue

from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.payload import encode_payload, encode_with_codec

SECRET = "4929-1234"


@dataclasses.dataclass
class Order:
    id: int
    note: object = ""


class Invoice(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    id: int
    due: dt.date
    extra: object = None


class Colour(enum.Enum):
    RED = "red"


class Status(models.TextChoices):
    PAID = "paid", "Paid"


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"\xff\x00",
        lambda: "héllo",
        lambda: mark_safe("<b>hello</b>"),
        lambda: Status.PAID,
        lambda: {"id": 1, "ü": [None, True, 1.5]},
        lambda: {1: "a", None: "b", False: "c", (1, 2): "d"},
        lambda: [1, "two"],
        lambda: (1, 2),
        lambda: {3},
        lambda: frozenset({4}),
        lambda: collections.deque([1]),
        lambda: Point(1, 2),
        lambda: (n * n for n in range(3)),
        lambda: map(str, [1, 2]),
        lambda: {"nested": (n for n in range(3))},
        lambda: Order(1, Order(2)),
        lambda: Invoice(id=1, due=dt.date(2024, 2, 29)),
        lambda: [Invoice(id=1, due=dt.date(2024, 2, 29))],
        lambda: Colour.RED,
        lambda: dt.datetime(2024, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
        lambda: dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
        lambda: dt.date(2024, 1, 2),
        lambda: dt.time(3, 4),
        lambda: dt.timedelta(seconds=90),
        lambda: decimal.Decimal("1.10"),
        lambda: uuid.UUID(int=1),
        lambda: pathlib.Path("/tmp/x"),
        lambda: ipaddress.ip_address("127.0.0.1"),
        lambda: {"nested": b"bytes"},
        lambda: 10**30,
        lambda: True,
        lambda: "",
    ],
)
def test_a_payload_becomes_what_faststream_makes_of_it(make):
    expected = encode_message(make(), PydanticSerializer(use_fastdepends_errors=False))

    assert encode_payload(make()) == expected


def test_none_is_refused_and_the_text_says_how_to_send_an_empty_body():
    """FastStream sends an empty body, mostly of a function that forgot its return."""
    with pytest.raises(InvalidMessage, match=r'^the message is None; pass b"" for an empty body'):
        encode_payload(None)

    assert encode_payload(b"") == (b"", None)
    assert encode_payload([None]) == (b"[null]", "application/json")


def test_queue_in_the_place_of_the_message_is_told():
    with pytest.raises(InvalidMessage, match=r"^the message is a RabbitQueue; it comes first"):
        encode_payload(RabbitQueue("orders"))


@pytest.mark.parametrize("payload", [bytearray(b"\xff"), memoryview(b"\xff")])
def test_any_kind_of_bytes_goes_as_it_is(payload):
    assert encode_payload(payload) == (b"\xff", None)


def test_a_lazy_string_is_text():
    assert encode_payload(lazystr("héllo")) == ("héllo".encode(), "text/plain")


def test_lazy_strings_are_encoded_as_values_and_as_keys_at_any_depth():
    payload = {lazystr("key"): [lazystr("value")], "order": Order(1, {lazystr("k"): lazystr("v")})}

    body, content_type = encode_payload(payload)

    assert content_type == "application/json"
    assert json.loads(body) == {"key": ["value"], "order": {"id": 1, "note": {"k": "v"}}}


@pytest.mark.django_db
def test_values_query_sets_are_lists():
    User.objects.create(username="ann")
    users = User.objects.order_by("pk")

    body, _ = encode_payload(
        {"dicts": users.values("username"), "flat": users.values_list("username", flat=True)}
    )

    assert json.loads(body) == {"dicts": [{"username": "ann"}], "flat": ["ann"]}


@pytest.mark.django_db
def test_a_values_query_set_may_be_the_whole_payload():
    User.objects.create(username="ann")

    assert encode_payload(User.objects.values_list("username")) == (
        b'[["ann"]]',
        "application/json",
    )


async def _encode_values_query_set():
    return encode_payload({"users": User.objects.values("pk")})


def test_an_error_of_the_database_layer_is_not_disguised():
    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(_encode_values_query_set())


def _broken_iterator():
    yield 1
    raise KeyboardInterrupt


def test_what_an_iterator_raises_reaches_the_caller():
    with pytest.raises(KeyboardInterrupt):
        encode_payload(_broken_iterator())


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (User(username=SECRET), ""),
        ({"user": User(username=SECRET)}, "message['user']: "),
        ({"orders": [{"user": User(username=SECRET)}]}, "message['orders'][0]['user']: "),
    ],
)
def test_a_model_instance_is_refused_with_its_place(payload, path):
    with pytest.raises(InvalidMessage) as caught:
        encode_payload(payload)

    assert str(caught.value) == (
        f"{path}the model instance User cannot be encoded; pass a dict, a dataclass or a serializer's data"
    )


def test_a_lazy_user_is_refused_without_a_query():
    def load():
        raise AssertionError("evaluated")

    with pytest.raises(InvalidMessage, match="pass a dict, a dataclass or a serializer's data"):
        encode_payload(SimpleLazyObject(load))


def test_a_nested_lazy_user_is_refused():
    payload = {"user": SimpleLazyObject(lambda: User(username=SECRET))}

    with pytest.raises(InvalidMessage, match=r"message\['user'\]: the lazy object"):
        encode_payload(payload)


@pytest.mark.parametrize("payload", [User.objects.none(), {"users": User.objects.all()}])
def test_a_query_set_of_objects_is_refused(payload):
    with pytest.raises(InvalidMessage, match=r"use \.values\("):
        encode_payload(payload)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (math.nan, "message: NaN is not JSON"),
        ({"price": math.inf}, "message['price']: Infinity is not JSON"),
        ({"a": [1, -math.inf]}, "message['a'][1]: -Infinity is not JSON"),
        (Order(1, math.nan), "message['note']: NaN is not JSON"),
    ],
)
def test_numbers_that_json_does_not_have_are_refused(payload, text):
    with pytest.raises(InvalidMessage) as caught:
        encode_payload(payload)

    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "payload", [{"name": "NaN"}, ["Infinity"], {"NaN": 10**5000}, decimal.Decimal("NaN")]
)
def test_text_may_contain_the_names_of_those_numbers(payload):
    body, _ = encode_payload(payload)

    assert body == encode_message(payload, PydanticSerializer())[0]


def _cycle():
    payload = {SECRET: []}
    payload[SECRET].append(payload)
    return payload


def _deep():
    payload = []
    for _ in range(1000):
        payload = [payload]
    return payload


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_cycle, "the dict refers to itself"),
        (_deep, "the list is nested too deeply"),
        (lambda: "\ud800" + SECRET, "the text is not valid Unicode"),
        (lambda: {"a": ["\ud800" + SECRET]}, "message['a'][0]: the text is not valid Unicode"),
        (lambda: {"\ud800": SECRET}, "message['\\ud800']: the text is not valid Unicode"),
        (lambda: {"a": b"\xff" + SECRET.encode()}, "message['a']: the bytes are not UTF-8"),
        (lambda: Order(1, b"\xff" + SECRET.encode()), "message: the bytes are not UTF-8"),
        (lambda: {"a": lambda: SECRET}, "message['a']: a value of type builtins.function"),
        (lambda: {"a": ValueError(SECRET)}, "message['a']: a value of type builtins.ValueError"),
        (lambda: Order(1, object()), "a value of type builtins.object cannot be encoded"),
        (lambda: {"a": memoryview(b"")}, "message['a']: a value of type builtins.memoryview"),
        (lambda: {"a": [b"\xff", b"ok", SECRET]}, "message['a'][0]: the bytes are not UTF-8"),
        (lambda: {"a": ["\ud800", SECRET, SECRET]}, "message['a'][0]: the text"),
        (lambda: {object(): 1}, "message[<object>]: a value of type builtins.object"),
    ],
)
def test_what_json_cannot_hold_is_refused_without_showing_it(make, text):
    with pytest.raises(InvalidMessage) as caught:
        encode_payload(make())

    assert str(caught.value).startswith(text)
    assert SECRET not in str(caught.value)


def _failing():
    yield 1
    raise LookupError(SECRET)


def test_a_failing_serializer_is_the_cause_and_not_the_text():
    with pytest.raises(InvalidMessage, match="the code that serializes one of its") as caught:
        encode_payload({"rows": _failing()})

    assert SECRET not in str(caught.value)
    assert "LookupError" in str(caught.value.__cause__)


class Codec:
    async def decode(self, msg):
        raise NotImplementedError

    async def encode(self, msg, serializer=None):
        return b"<" + serializer.encode(msg) + b">", "application/x-brackets"


class CodecThatFinishesAnAwait(Codec):
    async def encode(self, msg, serializer=None):
        return await super().encode(msg, serializer)


@pytest.mark.parametrize("codec", [Codec(), CodecThatFinishesAnAwait()])
def test_a_codec_encodes_the_payload_in_the_callers_thread(codec):
    assert encode_with_codec(codec, {"id": 1}) == (b'<{"id":1}>', "application/x-brackets")


class SleepingCodec(Codec):
    closed = False

    async def encode(self, msg, serializer=None):
        try:
            await asyncio.sleep(0)
        finally:
            self.closed = True


def test_a_codec_that_suspends_is_refused_and_closed():
    codec = SleepingCodec()

    with pytest.raises(InvalidMessage, match="must not await"):
        encode_with_codec(codec, SECRET)

    assert codec.closed


class StubbornCodec(Codec):
    async def encode(self, msg, serializer=None):
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)


def test_a_codec_that_suspends_while_it_is_closed_is_refused_too():
    with pytest.raises(InvalidMessage, match="must not await"):
        encode_with_codec(StubbornCodec(), {})


class FailingCodec(Codec):
    async def encode(self, msg, serializer=None):
        raise KeyError(msg)


class PickyCodec(Codec):
    async def encode(self, msg, serializer=None):
        raise InvalidMessage("no such schema")


class SyncCodec(Codec):
    def encode(self, msg, serializer=None):
        return b"", None


class WrongCodec(Codec):
    async def encode(self, msg, serializer=None):
        return "text"


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        (FailingCodec(), "the codec FailingCodec failed on the str with KeyError"),
        (PickyCodec(), "no such schema"),
        (SyncCodec(), "the codec SyncCodec failed on the str with AttributeError"),
        (WrongCodec(), "the codec WrongCodec returned a str"),
    ],
)
def test_a_codec_that_fails_is_refused_without_showing_the_payload(codec, text):
    with pytest.raises(InvalidMessage) as caught:
        encode_with_codec(codec, SECRET)

    assert str(caught.value).startswith(text)
    assert SECRET not in str(caught.value)
