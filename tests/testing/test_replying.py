"""Requests in a test: what answers them, and what is said where nothing does."""

import asyncio

import pytest

from faststream_django import arequest, brokers, publish, request
from faststream_django.exceptions import RequestFailed, RequestTimeout
from faststream_django.testing import capture_messages
from tests.publishing.verbs import call

BOTH = pytest.mark.parametrize("verb", [request, arequest])


@BOTH
@pytest.mark.parametrize("value", [{"price": 12}, [1, 2], "text", b"\xff", 0])
def test_reply_with_is_what_the_handler_would_return(verb, value):
    with capture_messages(reply_with=value) as messages:
        assert call(verb, {"id": 7}, "prices") == value

    messages.assert_published("prices", body={"id": 7}, count=1)


def test_function_is_given_the_message():
    with capture_messages(reply_with=lambda message: {"price": message.decode()["id"] * 2}):
        assert [request({"id": number}, "prices")["price"] for number in (1, 2)] == [2, 4]


def test_nothing_is_a_reply_too():
    with capture_messages(reply_with=None):
        assert request("x", "prices") == b""


def test_reply_arrives_as_it_would_travel():
    with capture_messages(reply_with={1: (2, 3)}):
        assert request("x", "prices") == {"1": [2, 3]}


@pytest.mark.parametrize(
    "failure",
    [RequestTimeout("too late", maybe_sent=True), RequestTimeout, lambda _: RequestFailed("no")],
)
def test_failure_is_raised(failure):
    with capture_messages(reply_with=failure), pytest.raises((RequestTimeout, RequestFailed)) as raised:
        request("x", "prices", broker="other")

    assert raised.value.broker == "other"
    assert raised.value.message.decode() == "x"


def test_fail_with_applies_to_requests_too():
    with capture_messages(fail_with=[RequestTimeout], reply_with=1) as messages:
        with pytest.raises(RequestTimeout):
            request("x", "prices")
        assert request("x", "prices") == 1

    assert len(messages) == 1


@BOTH
def test_request_without_a_reply_says_what_to_do(verb):
    with capture_messages() as messages, pytest.raises(RuntimeError, match="reply_with="):
        call(verb, "x", "prices")

    assert len(messages) == 1


def test_innermost_capture_with_a_reply_answers():
    with capture_messages(reply_with="outer"):
        with capture_messages():
            assert request("x", "prices") == "outer"
        with capture_messages(reply_with="inner"):
            assert request("x", "prices") == "inner"
        assert request("x", "prices") == "outer"


def test_decorated_test_has_its_replies():
    @capture_messages(reply_with=3)
    async def decorated(messages):
        publish_count = len(messages)
        return publish_count, await arequest("x", "prices")

    assert asyncio.run(decorated()) == (0, 3)


def test_guarded_request_says_what_to_do(monkeypatch):
    monkeypatch.setattr(brokers, "_unguarded", [])

    publish("x", "prices")
    with pytest.raises(RuntimeError, match=r"real_brokers\(\)"):
        request("x", "prices")
