"""Message.encode() makes a whole message or refuses it in the caller's thread."""

import base64
import copy
import dataclasses
import datetime as dt
import pickle
import subprocess
import sys
import uuid

import pytest
from faststream.rabbit import RabbitExchange, RabbitQueue

from faststream_django.exceptions import InvalidMessage
from faststream_django.messages import Message


def test_defaults_are_persistent_mandatory_and_correlated_with_itself():
    message = Message.encode({"id": 1}, "orders")

    assert (message.body, message.content_type) == (b'{"id":1}', "application/json")
    assert (message.exchange, message.routing_key) == ("", "orders")
    assert (message.persist, message.mandatory) == (True, True)
    assert message.headers == {}
    assert uuid.UUID(message.message_id).version == 4
    assert message.correlation_id == message.message_id
    assert message.timestamp.utcoffset() is not None


def test_every_message_has_its_own_id():
    assert Message.encode("", "q").message_id != Message.encode("", "q").message_id


def test_everything_given_is_kept():
    identifier = uuid.uuid4()

    message = Message.encode(
        "text",
        RabbitQueue("ignored"),
        RabbitExchange("events"),
        routing_key="order.paid",
        headers={"tenant": "a"},
        correlation_id="request-1",
        message_id=identifier,
        reply_to="answers",
        content_type="text/markdown",
        content_encoding="utf-8",
        expiration=60,
        priority=5,
        timestamp=1_700_000_000,
        message_type="order",
        persist=False,
        mandatory=False,
        app_id="shop",
    )

    assert dataclasses.asdict(message) == {
        "body": b"text",
        "exchange": "events",
        "routing_key": "order.paid",
        "headers": {"tenant": "a"},
        "content_type": "text/markdown",
        "content_encoding": "utf-8",
        "message_id": str(identifier),
        "correlation_id": "request-1",
        "reply_to": "answers",
        "expiration": 60.0,
        "priority": 5,
        "timestamp": message.timestamp,
        "message_type": "order",
        "persist": False,
        "mandatory": False,
        "app_id": "shop",
    }
    assert message.timestamp.timestamp() == 1_700_000_000


def test_the_id_generator_makes_the_correlation_id():
    message = Message.encode("", "q", id_generator=lambda: "generated")

    assert message.correlation_id == "generated"
    assert message.message_id != "generated"


def test_the_id_generator_is_not_asked_when_a_correlation_id_is_given():
    message = Message.encode("", "q", correlation_id="mine", id_generator=lambda: 1 / 0)

    assert message.correlation_id == "mine"


def test_an_empty_correlation_id_counts_as_left_out():
    """Such as request.headers.get("X-Request-ID", "")."""
    message = Message.encode("", "q", correlation_id="")

    assert message.correlation_id == message.message_id


def test_a_later_change_of_payload_and_headers_does_not_change_the_message():
    payload, headers = {"id": 1}, {"x": {"y": 1}}

    message = Message.encode(payload, "q", headers=headers)
    payload["id"] = headers["x"]["y"] = 2

    assert message.decode() == {"id": 1}
    assert message.headers == {"x": {"y": 1}}


def test_a_message_cannot_be_changed():
    message = Message.encode("", "q")

    with pytest.raises(dataclasses.FrozenInstanceError):
        message.body = b"other"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_message_can_be_copied_and_pickled(duplicate):
    message = Message.encode({"id": 1}, "q", headers={"x": [1, {"y": None}]})

    assert duplicate(message) == message
    assert hash(duplicate(message)) == hash(message)


# What version 0.1 made of the message below, with protocols 2 and 5, in base 85.
OLD_PICKLES = [
    (
        "fC6J?VRLkIbaG{3ZC_++VQyz{E^TFVb75y?a|%smb8}&5WeRZsDS>eTU2y^^V_#!$WMyM>3T19%Z)9Z(aRXQg0001c"
        "B57nIIx&551Xu<D003-ZbZKreaRr8P22ybcSO5S30C5Od1^@s6Z*pX1a&vJBeQ^p{0RR91cyS9|aSSL+0ex`|SOEY4"
        "0C{l^PIF~*SP%dJ0AX-&Y-wX*bZKvHFKTmdZgCGzSOWk60BtQXaS&Jo0001EEirKsPDema00000002t`V`O1;Wprt6"
        "WeQ|rbY*mDZDk5^5@-Wh3jhEB2g9lX0s{mE0001S6KDm7aTHQ<6=P&!bY*mDZDk5{X>DbCZ*FA@aTa4_VRU75X>DZ+"
        "bZKp6WMyo0VG3~<O8`p%O8|#)7*cT=g>f2EaT|tl98z%|SOow80B>?+WpZ&Ih=^rkE&"
    ),
    (
        "fCZK6000000001t8fIa0baQlaWnpb!WNKk<XKyZTWpi_3XJvDgj0a6+b8}&5Wt5YYDS?z-lqf?8dm?FMB04dBl#BqB"
        "j0SIVWMy)5lzo(p0eF;MlqgF9eUyv=d6Z6bWpj)WVQ_G4X=7n@X>V>XYIARHlunETZ7ngBj00mWF_cb6Ku!Pv00000"
        "O9hMwWMOn=bZKp6l#B>uVRU75X>DbclaxaW2kHR=0|W&C005L|5R3?PX>DbCZ*FCjlay!>j0tpUZDnL-Y;<9ilaxyU"
        "O8`p%hm=y3g_Kg1hLlp2j0JCUWMy)ch=^rkE&"
    ),
]


@pytest.mark.parametrize("old", OLD_PICKLES, ids=["protocol 2", "protocol 5"])
def test_a_pickle_of_an_earlier_version_loads(old):
    """A table of messages to send again outlives an upgrade."""
    message = pickle.loads(base64.b85decode(old))

    assert message == Message.encode(
        {"id": 1},
        "orders",
        headers={"x": [1, {"y": None}]},
        message_id="m-1",
        correlation_id="c-1",
        expiration=60,
        priority=5,
        timestamp=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        message_type="order",
    )
    assert message.app_id == "faststream_django"
    assert pickle.loads(pickle.dumps(message)) == message


@pytest.mark.parametrize(
    ("payload", "decoded"),
    [
        ({"id": 1}, {"id": 1}),
        ("text", "text"),
        ("1", "1"),
        (b"\xff", b"\xff"),
        (b'{"id": 1}', {"id": 1}),
        (b"", b""),
    ],
)
def test_decode_gives_what_a_subscriber_gets(payload, decoded):
    assert Message.encode(payload, "q").decode() == decoded


def test_a_body_of_another_content_type_stays_bytes():
    message = Message.encode(b"1", "q", content_type="application/octet-stream")

    assert message.decode() == b"1"


def test_repr_shows_neither_body_nor_headers():
    message = Message.encode({"card": "4929"}, "orders", headers={"x": "4929"}, message_id="m-1")

    assert repr(message) == "<Message 'm-1' to queue 'orders': 15 bytes, application/json>"


def test_repr_without_content_type_and_with_an_exchange():
    message = Message.encode(b"", "", "events", routing_key="a.b", message_id="m-1")

    assert repr(message) == (
        "<Message 'm-1' to exchange 'events' with routing key 'a.b': 0 bytes, no content type>"
    )


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"headers": {"x": {"y": ()}}}, "headers['x']['y'] is not a list"),
        ({"routing_key": "k" * 256}, "routing_key has 256 bytes"),
        ({"exchange": "é"}, "exchange 'é'"),
        ({"correlation_id": "a\nb"}, "correlation_id has a control character"),
        ({"reply_to": 1}, "reply_to is an int"),
        ({"content_type": "x" * 256}, "content_type has 256 bytes"),
        ({"content_encoding": b"gzip"}, "content_encoding is a bytes"),
        ({"message_type": "\0"}, "message_type has a control character"),
        ({"expiration": -1}, "expiration is -1 seconds from now"),
        ({"priority": 256}, "priority is out of range"),
        ({"timestamp": "now"}, "timestamp is a str"),
        ({"persist": 1}, "persist is an int"),
        ({"app_id": 5}, "app_id is an int"),
        ({"mandatory": "yes"}, "mandatory is a str"),
        ({"id_generator": lambda: 5}, "id_generator() is an int"),
    ],
)
def test_a_refusal_names_the_message_the_broker_and_the_place(options, place):
    with pytest.raises(InvalidMessage) as caught:
        Message.encode("", "q", message_id="m-1", broker="audit", **options)

    error = caught.value
    assert str(error).startswith(f"Message m-1 for broker 'audit' was refused: {place}")
    assert (error.message_id, error.broker, error.maybe_sent) == ("m-1", "audit", False)


def test_a_refused_id_is_not_the_id_of_the_error():
    with pytest.raises(InvalidMessage, match=r"^The message for .* refused: message_id has") as info:
        Message.encode("", "q", message_id="a\nb")

    assert info.value.message_id is None


def test_a_refusal_of_the_payload_names_the_generated_id():
    with pytest.raises(InvalidMessage, match="was refused: a value of type") as caught:
        Message.encode(object(), "q")

    assert caught.value.message_id in str(caught.value)


def _publish_another():
    yield 1
    Message.encode("", "", message_id="inner")


def test_a_refusal_inside_an_iterator_keeps_its_own_message():
    with pytest.raises(InvalidMessage) as caught:
        Message.encode(_publish_another(), "q", message_id="outer")

    assert caught.value.message_id == "inner"
    assert str(caught.value).count("was refused") == 1


def test_a_message_is_not_a_payload():
    with pytest.raises(InvalidMessage, match="the payload is a Message already"):
        Message.encode(Message.encode("", "q"), "q")


def test_a_body_of_max_bytes_is_allowed_and_one_more_is_refused():
    assert len(Message.encode(b"12345", "q", max_bytes=5).body) == 5

    with pytest.raises(InvalidMessage, match="the body has 6 bytes, and MAX_MESSAGE_BYTES allows 5"):
        Message.encode(b"123456", "q", max_bytes=5)


class Codec:
    async def encode(self, msg, serializer=None):
        return b"%d" % len(msg), "application/x-length"


def test_a_codec_encodes_the_payload():
    message = Message.encode(["a", "b"], "q", codec=Codec())

    assert (message.body, message.content_type) == (b"2", "application/x-length")


def test_a_content_type_given_wins_over_that_of_the_codec():
    assert Message.encode("", "q", codec=Codec(), content_type="x/y").content_type == "x/y"


def test_it_works_without_settings_and_imports_no_framework():
    program = """
import sys
from faststream_django.messages import Message

message = Message.encode({"id": 1}, "orders", headers={"a": "b"})
heavy = {"faststream", "aio_pika", "pydantic"} & set(sys.modules)
assert not heavy, heavy
assert message.decode() == {"id": 1}
try:
    Message.encode({"a": object()}, "orders")
except ValueError as error:
    assert "message['a']" in str(error)
"""

    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
