"""What middlewares do with a message and its verdict."""

import asyncio
from contextlib import suppress

import pytest

from faststream_django.exceptions import (
    BrokerUnavailable,
    ConnectionLost,
    MessageRejected,
    MessageUnroutable,
    PublishError,
)
from tests.connection.couriers import posted, run, send, told_of


async def swallow(transmit):
    with suppress(PublishError):
        await transmit()


async def give_up_early(transmit):
    with suppress(TimeoutError):
        await asyncio.wait_for(transmit(), 0.01)


async def repeat(transmit):
    with suppress(PublishError):
        await transmit()
    await transmit()


async def translate(transmit):
    try:
        await transmit()
    except PublishError:
        raise BrokerUnavailable("the middleware's own words") from None


@pytest.mark.parametrize(
    ("verdict", "maybe_sent"), [(ConnectionLost("reset"), True), (MessageUnroutable("no queue"), False)]
)
@pytest.mark.parametrize("middleware", [swallow, translate])
def test_error_of_a_middleware_keeps_what_is_known_of_the_message(middleware, verdict, maybe_sent):
    async def scenario(courier, backend):
        _, told = send(courier)
        await posted(backend.sessions[0])
        backend.sessions[0].answer(verdict)
        return (await told_of(told)).maybe_sent

    assert run(scenario, middleware) is maybe_sent


@pytest.mark.parametrize(
    ("first", "maybe_sent"),
    [(ConnectionLost("reset"), True), (None, True), (MessageUnroutable("no queue"), False)],
)
@pytest.mark.parametrize("second", [BrokerUnavailable("gone"), MessageRejected("full")])
def test_message_that_may_have_been_sent_stays_so_when_it_is_tried_again(first, second, maybe_sent):
    async def scenario(courier, backend):
        _, told = send(courier)
        for verdict in (first, second):
            await posted(backend.sessions[0])
            backend.sessions[0].posted[0].maybe_sent = verdict is not second
            backend.sessions[0].answer(verdict)
        return (await told_of(told)).maybe_sent

    assert run(scenario, repeat) is maybe_sent


def test_deadline_while_a_middleware_waits_to_try_again_leaves_the_outcome_unknown():
    async def wait_after_failure(transmit):
        with suppress(PublishError):
            await transmit()
        await asyncio.sleep(60)

    async def scenario(courier, backend):
        publication, told = send(courier)
        await posted(backend.sessions[0])
        backend.sessions[0].answer(ConnectionLost("reset"))
        await asyncio.sleep(0)
        courier.expire(publication)
        return (await told_of(told)).maybe_sent

    assert run(scenario, wait_after_failure)


def test_message_that_a_middleware_gave_up_is_withdrawn_and_its_outcome_unknown():
    async def scenario(courier, backend):
        publication, told = send(courier)
        await posted(backend.sessions[0])
        return (await told_of(told)).maybe_sent, backend.sessions[0].withdrawn == [publication]

    assert run(scenario, give_up_early) == (True, True)


def test_own_error_of_a_middleware_says_that_the_broker_may_have_the_message():
    async def fail(transmit):
        try:
            await transmit()
        except PublishError:
            raise LookupError("the middleware's own") from None

    async def scenario(courier, backend):
        _, told = send(courier)
        await posted(backend.sessions[0])
        backend.sessions[0].answer(ConnectionLost("reset"))
        return await told_of(told)

    error = run(scenario, fail)
    assert type(error) is LookupError
    assert "may have message" in error.__notes__[0]


def test_message_that_a_middleware_holds_is_told_at_the_end_of_a_stop():
    async def hang(transmit):
        await asyncio.Event().wait()

    async def scenario(courier, backend):
        _, told = send(courier, timeout=60)
        await courier.close(0.1)
        return [type(error) for error in told]

    assert run(scenario, hang) == [BrokerUnavailable]


def test_middlewares_do_not_see_a_message_that_is_processed():
    async def scenario(courier, backend):
        _, told = send(courier, is_processed=True)
        await posted(backend.sessions[0])
        backend.sessions[0].answer()
        return await told_of(told)

    async def refuse(transmit):
        raise AssertionError("a middleware saw it")

    assert run(scenario, refuse) is None
