"""What becomes of a message that fails: on RabbitMQ, and the same on the embedded broker."""

import json
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from faststream import Path
from faststream.exceptions import AckMessage, NackMessage, RejectMessage
from faststream.middlewares import AckPolicy
from faststream.rabbit import Channel, ExchangeType, RabbitExchange, RabbitMessage, RabbitQueue, RabbitRouter
from pydantic import BaseModel

from faststream_django.worker.retrying import retry
from tests.worker.sites import Calls, eventually

QUICK = {"ATTEMPTS": 3, "BACKOFF": (0.05, 0.2)}
NEVER = {"ATTEMPTS": 1}
BUSY = 0.25
"""Seconds that a busy machine may take for a delivery."""


@pytest.fixture
def quick(monkeypatch):
    """Wait less where no test needs more."""
    monkeypatch.setattr("faststream_django.worker.dead_letters.PAUSES", (0.05, 0.1))
    monkeypatch.setattr("faststream_django.worker.settling.GIVE_BACK_PAUSE", 0.3)


def errors(caplog):
    return [each for each in caplog.records if each.levelno >= logging.ERROR]


def failing(site, *, error=OSError, queue=None, **options):
    """Return a router whose handler always fails, and its calls."""
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(queue or site.name, **options)
    def handle(body) -> None:
        calls(body)
        raise error

    return router, calls


# Handled again


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_handler_that_fails_three_times_then_succeeds(site, caplog, kind):
    site.configure(QUEUES={site.name: {"type": kind}}, WORKER={"ATTEMPTS": 5, "BACKOFF": (0.5, 300)})
    site.declare(site.name, **{"x-queue-type": kind})
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(RabbitQueue(site.name, declare=False))
    def handle(body: str) -> None:
        if calls(body) < 4:
            raise OSError("the stock does not answer")

    site.consume(router)
    site.publish(b"order", message_id="m-1")
    calls.wait(4)

    assert calls.seen == ["order"] * 4
    # The first one connects the publisher too.
    for gap, step, busy in zip(calls.gaps, [0.5, 1.0, 2.0], [4 * BUSY, BUSY, BUSY], strict=True):
        assert 0.8 * step <= gap <= 1.2 * step + busy
    told = errors(caplog)
    assert [(each.queue, each.message_id, each.attempt) for each in told] == [
        (site.name, "m-1", attempt) for attempt in (1, 2, 3)
    ]
    assert all(f"attempt={n}/5 reason=failed" in each.getMessage() for n, each in enumerate(told, 1))
    assert all("next='again in " in each.getMessage() and each.exc_info for each in told)
    assert site.is_empty(site.dead_letters)


def test_others_are_handled_while_one_waits(site):
    site.configure(WORKER={"ATTEMPTS": 2, "BACKOFF": (1.0, 1.0)})
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name, channel=Channel(prefetch_count=1))
    def handle(body: str) -> None:
        calls(body)
        if body == "bad":
            raise OSError

    site.consume(router)
    for body in (b"bad", b"one", b"two", b"three"):
        site.publish(body)
    calls.wait(5)

    assert calls.seen == ["bad", "one", "two", "three", "bad"]
    assert calls.times[3] - calls.times[0] < 0.8


def test_async_handler_is_retried_too(site):
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    async def handle(body: str) -> None:
        if calls(body) < 3:
            raise OSError

    site.consume(router)
    site.publish(b"order")

    calls.wait(3)
    assert site.is_empty(site.dead_letters)


def test_handler_has_its_own_policy(site):
    site.configure(WORKER={"ATTEMPTS": 1})
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    @retry(3, backoff=(0.05, 0.05), on=(ConnectionError,))
    def handle(body: str) -> None:
        raise ConnectionError if calls(body) < 3 else OSError

    site.consume(router)
    site.publish(b"order")
    [dead] = site.wait_for(site.dead_letters)

    assert len(calls.seen) == 3
    assert dead.headers["faststream-attempts"] == 3
    assert dead.headers["faststream-error"].startswith("OSError at ")


def test_what_is_not_worth_another_attempt_is_a_dead_letter_at_once(site):
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    @retry(on=ConnectionError)
    def handle(body: str) -> None:
        calls(body)
        raise ValueError

    site.consume(router)
    site.publish(b"order")

    [dead] = site.wait_for(site.dead_letters)
    assert len(calls.seen) == 1
    assert (dead.headers["faststream-reason"], dead.headers["faststream-attempts"]) == ("failed", 1)


def test_retry_of_none_leads_straight_to_the_dead_letters(site):
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    @retry(0)
    @router.subscriber(site.name)
    def handle(body: str) -> None:
        calls(body)
        raise OSError

    site.consume(router)
    site.publish(b"order")

    assert len(site.wait_for(site.dead_letters)) == 1
    assert len(calls.seen) == 1


@pytest.mark.parametrize("policy", [{}, {"ack_policy": AckPolicy.REJECT_ON_ERROR}])
def test_routing_of_the_publisher_is_restored(site, policy):
    """Else a handler with Path() fails when its message comes back from the queue where it waited."""
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()
    exchange = f"{site.name}-events"

    @router.subscriber(
        RabbitQueue(site.name, routing_key="logs.{level}"),
        RabbitExchange(exchange, type=ExchangeType.TOPIC),
        **policy,
    )
    def handle(body: str, level: str = Path()) -> None:
        calls(level)
        raise OSError

    site.consume(router)
    site.publish(b"order", "logs.info", exchange)
    [dead] = site.wait_for(site.dead_letters)

    assert calls.seen == ["info"] * 3
    assert dead.headers["faststream-exchange"] == exchange
    assert dead.headers["faststream-routing-key"] == "logs.info"
    assert dead.headers["faststream-queue"] == site.name


def test_queue_of_a_router_with_a_prefix(site):
    site.configure(WORKER=QUICK)
    router, inner, calls = RabbitRouter(), RabbitRouter(prefix=f"{site.name}-"), Calls()

    @inner.subscriber("orders")
    def handle(body: str) -> None:
        calls(body)
        raise OSError

    router.include_router(inner)
    site.consume(router)
    site.publish(b"order", f"{site.name}-orders")

    [dead] = site.wait_for(f"{site.name}-orders.dlq")
    assert dead.headers["faststream-queue"] == f"{site.name}-orders"
    assert len(calls.seen) == 3


# Dead letters


HEADERS = {
    "tenant": "acme",
    "raw": b"\xff\x00",
    "nested": {"list": [1, {"deep": None}], "flag": True},
    "nothing": None,
    "price": Decimal("-1.50"),
    "rate": Decimal("2.25"),
    "big": 2**62,
    "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}


def test_dead_letter_is_complete(site):
    site.configure(WORKER=QUICK)
    router, _ = failing(site)
    site.consume(router)
    began = datetime.now(UTC) - timedelta(seconds=1)

    site.publish(
        b'{"id": 1}',
        message_id="m-1",
        correlation_id="c-1",
        content_type="application/json",
        content_encoding="identity",
        priority=3,
        timestamp=1_700_000_000,
        type="order.placed",
        app_id="shop",
        expiration="60000",
        headers={**HEADERS, "CC": [], "x-delivery-count": 7},
    )
    [dead] = site.wait_for(site.dead_letters)

    assert dead.body == b'{"id": 1}'
    assert (dead.message_id, dead.correlation_id, dead.app_id) == ("m-1", "c-1", "shop")
    assert (dead.content_type, dead.content_encoding) == ("application/json", "identity")
    assert (dead.priority, dead.timestamp, dead.type) == (3, 1_700_000_000, "order.placed")
    assert (dead.expiration, dead.user_id, dead.delivery_mode) == (None, None, 2)
    headers = dict(dead.headers)
    failed_at = headers.pop("faststream-failed-at")
    assert began <= failed_at.replace(tzinfo=UTC) <= datetime.now(UTC)
    error = headers.pop("faststream-error")
    assert error.startswith("OSError at tests.worker.test_failures:")
    assert error.endswith(" in handle")
    assert headers == {
        **HEADERS,
        "faststream-attempts": 3,
        "faststream-queue": site.name,
        "faststream-exchange": "",
        "faststream-routing-key": site.name,
        "faststream-reason": "failed",
    }


def test_message_without_properties_gets_none_of_them(site):
    """An id that was made up would seem to be the publisher's to what tells messages apart by it."""
    site.configure(WORKER=QUICK)
    router, calls = failing(site)
    site.consume(router)

    site.publish(b"x", message_id=None)
    [dead] = site.wait_for(site.dead_letters)

    assert len(calls.seen) == 3
    assert (dead.message_id, dead.correlation_id, dead.app_id, dead.priority) == (None,) * 4
    assert dead.reply_to is None


def test_expiration_cuts_no_wait_short_and_no_dead_letter_expires(site):
    site.configure(WORKER={"ATTEMPTS": 2, "BACKOFF": (1.0, 1.0)})
    router, calls = failing(site)
    site.consume(router)

    site.publish(b"x", expiration="500")
    calls.wait(2)
    assert calls.gaps[0] >= 0.8

    site.configure(WORKER=NEVER)
    other = f"{site.name}-2"
    router, _ = failing(site, queue=other)
    site.consume(router)
    site.publish(b"x", other, expiration="60000")
    [dead] = site.wait_for(f"{other}.dlq")
    assert dead.expiration is None


def test_copies_are_not_sent_a_second_time(site):
    site.configure(WORKER=QUICK)
    copies = f"{site.name}-copies"
    site.declare(copies)
    router, _ = failing(site)
    site.consume(router)

    site.publish(b"x", headers={"CC": [copies]})
    site.wait_for(site.dead_letters)

    assert len(site.drain(copies)) == 1


class Order(BaseModel):
    card: int


def test_body_that_cannot_be_decoded_is_a_dead_letter_at_once(site, caplog):
    site.configure(WORKER=QUICK)
    router, calls = failing(site)
    site.consume(router)

    site.publish(b'{"card": "secret', content_type="application/json")
    site.publish(b"\xff secret", content_type="text/plain")
    dead = site.wait_for(site.dead_letters, 2)

    assert calls.seen == []
    assert {each.headers["faststream-reason"] for each in dead} == {"undecodable"}
    assert {each.headers["faststream-attempts"] for each in dead} == {1}
    assert all(
        "the body is not what its content type says" in each.headers["faststream-error"] for each in dead
    )
    assert len(errors(caplog)) == 2
    assert "secret" not in caplog.text
    assert "secret" not in str([each.headers for each in dead])


def test_body_that_does_not_fit_the_arguments_is_a_dead_letter_at_once(site, caplog):
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    def handle(order: Order) -> None:
        calls(order)

    @router.subscriber(f"{site.name}-2")
    def handle_two(first: int, second: int) -> None:
        calls(first)

    site.consume(router)
    site.publish(b'{"card": "secret"}', content_type="application/json")
    site.publish(b'"secret"', f"{site.name}-2", content_type="application/json")
    site.publish(b"17", f"{site.name}-2", content_type="application/json")
    [dead] = site.wait_for(site.dead_letters)
    others = site.wait_for(f"{site.name}-2.dlq", 2)

    assert calls.seen == []
    assert dead.headers["faststream-reason"] == "invalid"
    assert "card: Input should be a valid integer" in dead.headers["faststream-error"]
    assert {each.headers["faststream-reason"] for each in others} == {"invalid"}
    assert "secret" not in caplog.text
    assert len(errors(caplog)) == 3
    assert "secret" not in str([each.headers for each in (dead, *others)])


def test_what_a_handler_validates_itself_is_tried_again(site):
    """It may be the answer of another service; and nobody can tell that it is not."""
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    def handle(body: dict) -> None:
        calls(body)
        json.loads("{") if body["by"] == "json" else Order.model_validate({"card": "x"})

    site.consume(router)
    site.publish(b'{"by": "json"}', content_type="application/json")
    site.publish(b'{"by": "model"}', content_type="application/json")
    dead = site.wait_for(site.dead_letters, 2)

    assert len(calls.seen) == 6
    assert {each.headers["faststream-reason"] for each in dead} == {"failed"}


def test_message_that_no_handler_takes_is_a_dead_letter(site, caplog):
    site.configure(WORKER=QUICK)
    router = RabbitRouter()

    @router.subscriber(site.name)(filter=lambda message: message.content_type == "application/json")
    def handle(body) -> None: ...

    site.consume(router)
    site.publish(b"x", content_type="text/plain", headers={"token": "secret"})
    [dead] = site.wait_for(site.dead_letters)

    assert dead.headers["faststream-reason"] == "unhandled"
    assert "secret" not in caplog.text


def test_body_that_is_too_large_is_a_dead_letter_at_once(site):
    site.configure(WORKER=QUICK, MAX_MESSAGE_BYTES=1000)
    router, calls = failing(site)
    site.consume(router)

    site.publish(b"x" * 1001)
    [dead] = site.wait_for(site.dead_letters)

    assert calls.seen == []
    assert dead.headers["faststream-reason"] == "invalid"
    assert "1,001 bytes, and MAX_MESSAGE_BYTES allows 1,000" in dead.headers["faststream-error"]
    assert len(dead.body) == 1001


def test_handler_is_found_among_several_of_a_queue(site):
    site.configure(WORKER={"ATTEMPTS": 5, "BACKOFF": (0.05, 0.05)})
    router, calls = RabbitRouter(), Calls()
    subscriber = router.subscriber(site.name)

    @subscriber(filter=lambda message: message.content_type == "application/json")
    @retry(2)
    def handle(body) -> None:
        calls(body)
        raise OSError

    @subscriber
    @retry(4)
    def handle_others(body) -> None:
        calls(body)
        raise OSError

    site.consume(router)
    site.publish(b"1", content_type="application/json")
    site.publish(b"text", content_type="text/plain")
    dead = site.wait_for(site.dead_letters, 2)

    assert {each.body: each.headers["faststream-attempts"] for each in dead} == {b"1": 2, b"text": 4}


# What the handler says


def test_rejected_message_is_a_dead_letter(site, caplog):
    site.configure(WORKER=QUICK)
    router, calls = failing(site, error=RejectMessage())
    site.consume(router)

    site.publish(b"x")
    [dead] = site.wait_for(site.dead_letters)

    assert len(calls.seen) == 1
    assert dead.headers["faststream-reason"] == "rejected"
    [told] = errors(caplog)
    assert "reason=rejected" in told.getMessage()


def test_acked_message_is_gone_and_a_nacked_one_comes_again(site, caplog):
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    def handle(body: str) -> None:
        if body == "ack":
            raise AckMessage
        if calls(body) == 1:
            raise NackMessage

    site.consume(router)
    site.publish(b"ack")
    site.publish(b"nack")
    calls.wait(2)

    assert calls.seen == ["nack", "nack"]
    assert site.is_empty(site.dead_letters)
    assert errors(caplog) == []


def test_rejected_message_that_is_to_be_requeued_comes_again(site):
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    def handle(body: str) -> None:
        if calls(body) == 1:
            raise RejectMessage(requeue=True)

    site.consume(router)
    site.publish(b"x")

    calls.wait(2)
    assert site.is_empty(site.dead_letters)


@pytest.mark.parametrize("policy", [AckPolicy.ACK, AckPolicy.NACK_ON_ERROR, AckPolicy.MANUAL])
def test_policy_of_the_subscriber_is_respected_and_told_once(site, caplog, policy):
    site.configure(WORKER=NEVER)
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name, ack_policy=policy)
    def handle(body: str) -> None:
        if calls(body) == 1:
            raise OSError

    site.consume(router)
    site.publish(b"x", message_id="m-1")
    calls.wait(2 if policy is AckPolicy.NACK_ON_ERROR else 1)
    eventually(lambda: errors(caplog))

    assert site.is_empty(site.dead_letters)
    [told] = errors(caplog)
    assert f"next='left to the AckPolicy {policy.value}'" in told.getMessage()
    assert told.message_id == "m-1"


def test_message_that_the_handler_has_settled_is_left_alone(site, caplog):
    site.configure(WORKER=QUICK)
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    async def handle(body: str, message: RabbitMessage) -> None:
        calls(body)
        await message.ack()
        raise OSError

    site.consume(router)
    site.publish(b"x")
    eventually(lambda: errors(caplog))

    [told] = errors(caplog)
    assert "next='nothing, the handler has settled it'" in told.getMessage()
    assert len(calls.seen) == 1
    assert site.is_empty(site.dead_letters)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_handler_that_would_end_the_process_loses_no_message(site, error):
    site.configure(WORKER={"ATTEMPTS": 2, "BACKOFF": (0.05, 0.05)})
    router, calls = failing(site, error=error)
    site.consume(router)

    site.publish(b"x")
    if isinstance(error, SystemExit):  # with which FastStream stops the subscriber
        calls.wait(1)
        eventually(lambda: not site.is_empty(site.name))
    else:
        assert len(site.wait_for(site.dead_letters)) == 1


# Without dead letters


def test_without_dead_letters_it_is_dropped_and_told(site, caplog):
    site.configure(WORKER={**QUICK, "DEAD_LETTERS": False})
    router, calls = failing(site)
    site.consume(router)

    site.publish(b"x")
    calls.wait(3)
    eventually(lambda: len(errors(caplog)) == 3)

    assert "attempt=3/3 reason=failed" in errors(caplog)[-1].getMessage()
    assert "next='dropped'" in errors(caplog)[-1].getMessage()
    with pytest.raises(LookupError):
        site.count(site.dead_letters)


def test_without_dead_letters_the_exchange_of_the_queue_gets_it(site):
    mine = f"{site.name}-mine"
    site.configure(WORKER={**NEVER, "DEAD_LETTERS": False})
    site.declare(mine)
    site.declare(site.name, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": mine})
    router = RabbitRouter()

    @router.subscriber(RabbitQueue(site.name, declare=False))
    def handle(body: str) -> None:
        raise RejectMessage if body == "rejected" else OSError

    site.consume(router)
    site.publish(b"rejected")
    site.publish(b"failed")

    assert len(site.wait_for(mine, 2)) == 2
