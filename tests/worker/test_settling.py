"""Requests, results and middlewares of messages that fail."""

import asyncio
import logging

import pytest
from faststream import BaseMiddleware
from faststream.middlewares import ExceptionMiddleware
from faststream.rabbit import RabbitRouter

from faststream_django import arequest, publish
from faststream_django.exceptions import RequestFailed
from faststream_django.worker.retrying import retry
from tests.worker.sites import Calls, eventually

QUICK = {"ATTEMPTS": 3, "BACKOFF": (0.05, 0.2)}


def failing(site, error=OSError, **options):
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name, **options)
    def handle(body: dict) -> None:
        calls(body)
        raise error

    return router, calls


def errors(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


# Requests


@pytest.mark.parametrize("body", [{"id": 1}, "no dict"], ids=["failed", "invalid"])
def test_request_that_fails_is_answered_at_once_and_not_tried_again(site, caplog, body):
    site.configure(WORKER=QUICK)
    router, calls = failing(site)
    site.consume(router)

    with pytest.raises(RequestFailed) as raised:
        asyncio.run(arequest(body, site.name, timeout=10))

    assert raised.value.error_type == ("OSError" if body != "no dict" else "ValidationError")
    assert len(calls.seen) == (body != "no dict")
    [told] = errors(caplog)
    assert "next='an error reply'" in told
    eventually(lambda: site.is_empty(site.name))
    assert site.is_empty(site.dead_letters)


def test_reply_that_arrives_is_not_told_as_lost(site, caplog):
    """RabbitMQ returns a mandatory message for direct reply-to, and delivers it all the same."""
    router = RabbitRouter()

    @router.subscriber(site.name)
    def handle(body: str) -> str:
        return body * 2

    site.consume(router)

    assert asyncio.run(arequest("x", site.name, timeout=10)) == "xx"
    eventually(lambda: site.is_empty(site.name))
    site.stop()
    assert "reply-lost" not in caplog.text


def test_message_of_a_subscriber_that_never_replies_is_no_request(site):
    site.configure(WORKER=QUICK)
    answers = f"{site.name}-answers"
    site.declare(answers)
    router, calls = failing(site, no_reply=True)
    site.consume(router)

    site.publish(b"{}", content_type="application/json", reply_to=answers)
    [dead] = site.wait_for(site.dead_letters)

    assert len(calls.seen) == 3
    assert dead.reply_to == answers
    assert site.is_empty(answers)


def test_request_of_one_that_is_gone_is_a_dead_letter(site, caplog):
    site.configure(WORKER=QUICK)
    router, calls = failing(site)
    site.consume(router)

    site.publish(b"{}", content_type="application/json", reply_to=f"{site.name}-gone")
    [dead] = site.wait_for(site.dead_letters)

    assert len(calls.seen) == 1
    assert dead.headers["faststream-attempts"] == 1
    assert any("whoever sent it was not told" in each for each in errors(caplog))


def test_reply_that_cannot_be_sent_costs_no_work(site, caplog):
    """The handler is not called again for a requester who is gone."""
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    class Refusing(BaseMiddleware):
        async def publish_scope(self, call_next, cmd):
            raise OSError("no ink")

    router = RabbitRouter(middlewares=[Refusing])

    @router.subscriber(site.name)
    def handle(body: str) -> str:
        calls(body)
        return "answer"

    site.consume(router)
    site.publish(b"x", reply_to=f"{site.name}-gone")
    calls.wait()
    eventually(lambda: any("is handled, but its reply is not sent" in each for each in errors(caplog)))
    site.publish(b"y")
    calls.wait(2)

    assert calls.seen == ["x", "y"]
    assert site.is_empty(site.dead_letters)


# Results


def test_result_that_cannot_be_published_is_tried_again_whatever_the_policy_names(site):
    site.configure(WORKER={"ATTEMPTS": 10, "BACKOFF": (0.2, 0.2)})
    results = f"{site.name}-results"
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    @router.publisher(results)
    @retry(on=ConnectionError)
    def handle(body: str) -> str:
        calls(body)
        return "result"

    site.consume(router)
    site.publish(b"x")
    calls.wait(2)
    site.declare(results)

    assert [each.body for each in site.wait_for(results)] == [b"result"]
    assert site.is_empty(site.dead_letters)


def test_result_of_a_request_that_cannot_be_published_is_tried_again_though_the_reply_was_sent(site):
    site.configure(WORKER={"ATTEMPTS": 10, "BACKOFF": (0.2, 0.2)})
    results = f"{site.name}-results"
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    @router.publisher(results)
    def handle(body: str) -> str:
        calls(body)
        return "result"

    site.consume(router)

    assert asyncio.run(arequest("x", site.name, timeout=10)) == "result"
    calls.wait(2)
    site.declare(results)
    assert [each.body for each in site.wait_for(results)] == [b"result"]


# Middlewares


class Reversing(BaseMiddleware):
    """Turns bodies round on the way out and in, as one that encrypts them does."""

    async def publish_scope(self, call_next, cmd):
        cmd.body = cmd.body[::-1]
        return await call_next(cmd)

    async def consume_scope(self, call_next, msg):
        msg.body = msg.body[::-1]
        return await call_next(msg)


def test_middlewares_do_not_change_a_message_that_comes_again(site):
    site.configure(WORKER=QUICK, OPTIONS={"middlewares": [Reversing]})
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    def handle(body: str) -> None:
        calls(body)
        raise OSError

    site.consume(router)
    publish("order", site.name)
    [dead] = site.wait_for(site.dead_letters)

    assert calls.seen == ["order"] * 3
    assert dead.body == b"redro"


@pytest.mark.parametrize("place", ["on_receive", "consume_scope"])
def test_error_of_a_middleware_is_a_failure_as_of_the_handler(site, place):
    site.configure(WORKER=QUICK)
    arrived, calls = Calls(), Calls()

    class Failing(BaseMiddleware):
        async def on_receive(self):
            if place == "on_receive" and arrived() < 3:
                raise OSError

        async def consume_scope(self, call_next, msg):
            if place == "consume_scope" and arrived() < 3:
                raise OSError
            return await call_next(msg)

    router = RabbitRouter(middlewares=[Failing])

    @router.subscriber(site.name)
    def handle(body: str) -> None:
        calls(body)

    site.consume(router)
    site.publish(b"x")

    assert calls.wait() == ["x"]
    assert len(arrived.seen) == 3
    assert site.is_empty(site.dead_letters)


def test_what_an_exception_middleware_handles_is_done(site, caplog):
    site.configure(WORKER=QUICK)
    handled = Calls()
    middleware = ExceptionMiddleware(handlers={OSError: handled})
    router = RabbitRouter(middlewares=[middleware])

    @router.subscriber(site.name)
    def handle(body: str) -> None:
        raise OSError

    site.consume(router)
    site.publish(b"x")
    handled.wait()
    eventually(lambda: site.is_empty(site.name))

    assert errors(caplog) == []
    assert site.is_empty(site.dead_letters)
