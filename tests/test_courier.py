"""Deadlines and retries of a courier, on a session that answers when the test says so."""

import asyncio
import time

import pytest

from faststream_django.backends.base import Backend, Delivery, NotSent, Session
from faststream_django.conf import BrokerSettings
from faststream_django.courier import Courier
from faststream_django.exceptions import MessageRejected, PublishTimeout
from faststream_django.messages import Message


class SlowSession(Session):
    def __init__(self):
        self.closed = asyncio.get_running_loop().create_future()
        self.posted = []
        self.withdrawn = []
        self.heard = 0.0

    @property
    def heard_at(self):
        return self.heard

    def post(self, message, delivery, settled, *, more=False):
        delivery.settled = settled
        self.posted.append(delivery)

    def withdraw(self, delivery):
        self.withdrawn.append(delivery)

    def answer(self, verdict=None):
        delivery = self.posted.pop(0)
        delivery.settled(delivery, verdict)

    async def close(self):
        self.abort("closed")


class SlowBackend(Backend):
    is_direct = True

    def __init__(self):
        super().__init__(BrokerSettings(urls=("amqp://localhost/",), backend="", timeout=0.05))
        self.sessions = []

    async def connect(self, url):
        self.sessions.append(SlowSession())
        return self.sessions[-1]


def run(scenario):
    """Run a scenario with a courier that is connected; return what it returns."""

    async def main():
        backend = SlowBackend()
        courier = Courier(backend)
        courier.start()
        async with asyncio.timeout(10):
            while not courier.is_connected:  # noqa: ASYNC110 - the loop is the one that is tested
                await asyncio.sleep(0)
            return await scenario(courier, backend)

    return asyncio.run(main())


def send(courier, *, timeout=5.0):
    """Send a message; return it and the list that will hold what came of it."""
    delivery, told = Delivery(Message.encode(b"x", "orders"), "default", timeout), []
    courier.send(delivery, lambda _, error: told.append(error))
    return delivery, told


async def another_session(backend):
    while len(backend.sessions) < 2 or not backend.sessions[1].posted:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return backend.sessions[1]


@pytest.mark.parametrize("verdict", [None, MessageRejected("full")])
def test_verdict_is_told_once(verdict):
    async def scenario(courier, backend):
        delivery, told = send(courier)
        backend.sessions[0].answer(verdict)
        courier.expire(delivery)
        courier.drop(delivery)
        return told

    assert run(scenario) == [verdict]


def test_message_that_was_not_sent_goes_to_the_next_session():
    async def scenario(courier, backend):
        _, told = send(courier)
        backend.sessions[0].abort("reset")
        backend.sessions[0].answer(NotSent("reset"))
        (await another_session(backend)).answer()
        return told

    assert run(scenario) == [None]


def test_message_whose_time_is_over_is_withdrawn_and_told_once():
    async def scenario(courier, backend):
        delivery, told = send(courier)
        courier.expire(delivery)
        backend.sessions[0].answer()
        return [type(error) for error in told], backend.sessions[0].withdrawn == [delivery]

    assert run(scenario) == ([PublishTimeout], True)


def test_message_whose_time_was_over_does_not_go_to_the_next_session():
    """Its caller has heard that it was not sent."""

    async def scenario(courier, backend):
        delivery, told = send(courier)
        courier.expire(delivery)
        backend.sessions[0].abort("reset")
        backend.sessions[0].answer(NotSent("reset"))
        other, _ = send(courier)
        session = await another_session(backend)
        return [error.maybe_sent for error in told], session.posted == [other]

    assert run(scenario) == ([False], True)


def test_messages_wait_for_a_session_in_their_order():
    async def scenario(courier, backend):
        backend.sessions[0].abort("reset")
        sent = [send(courier)[0] for _ in range(5)]
        courier.drop(sent[2])
        session = await another_session(backend)
        return session.posted == [each for each in sent if each is not sent[2]]

    assert run(scenario)


# Whether the link is dead


def expire_two_in_a_row(courier):
    """Have two messages meet their deadline, the second posted after the first's."""
    for _ in range(2):
        courier.expire(send(courier)[0])


async def timeout_passes(courier):
    await asyncio.sleep(courier._backend.settings.timeout)


def test_silence_that_outlasts_the_timeout_ends_the_session():
    async def scenario(courier, backend):
        expire_two_in_a_row(courier)
        await timeout_passes(courier)
        courier.expire(send(courier)[0])
        return backend.sessions[0].closed.done()

    assert run(scenario)


def test_timeouts_that_are_too_short_for_the_broker_do_not_end_the_session():
    async def scenario(courier, backend):
        expire_two_in_a_row(courier)
        return backend.sessions[0].closed.done()

    assert not run(scenario)


def test_message_posted_before_the_silence_proves_nothing():
    async def scenario(courier, backend):
        early, _ = send(courier)
        courier.expire(send(courier)[0])
        await timeout_passes(courier)
        courier.expire(early)
        return backend.sessions[0].closed.done()

    assert not run(scenario)


def test_any_sign_of_life_ends_the_suspicion():
    """As the late answer to a message that was given up."""

    async def scenario(courier, backend):
        session = backend.sessions[0]
        expire_two_in_a_row(courier)
        await timeout_passes(courier)
        session.heard = time.monotonic()
        courier.expire(send(courier)[0])
        return session.closed.done()

    assert not run(scenario)


def test_link_that_was_heard_since_the_message_was_posted_is_not_suspected():
    async def scenario(courier, backend):
        session = backend.sessions[0]
        for _ in range(2):
            delivery, _ = send(courier)
            session.heard = time.monotonic()
            courier.expire(delivery)
            await timeout_passes(courier)
        return session.closed.done()

    assert not run(scenario)
