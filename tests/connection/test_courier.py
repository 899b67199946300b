"""Deadlines and retries of a courier, on a session that answers when the test says so."""

import asyncio
import time

import pytest

from faststream_django.backends.base import NotSent
from faststream_django.connection import window
from faststream_django.connection.courier import Courier
from faststream_django.exceptions import (
    BrokerUnavailable,
    ConnectionLost,
    MessageRejected,
    PublishError,
    PublishTimeout,
    TooManyInFlight,
)
from tests.connection.couriers import SlowBackend, another_session, bulk_of, run, send, until


@pytest.mark.parametrize("verdict", [None, MessageRejected("full")])
def test_verdict_is_told_once(verdict):
    async def scenario(courier, backend):
        publication, told = send(courier)
        backend.sessions[0].answer(verdict)
        courier.expire(publication)
        courier.drop(publication)
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
        publication, told = send(courier)
        courier.expire(publication)
        backend.sessions[0].answer()
        return [type(error) for error in told], backend.sessions[0].withdrawn == [publication]

    assert run(scenario) == ([PublishTimeout], True)


def test_message_whose_time_was_over_does_not_go_to_the_next_session():
    """Its caller has heard that it was not sent."""

    async def scenario(courier, backend):
        publication, told = send(courier)
        courier.expire(publication)
        backend.sessions[0].abort("reset")
        backend.sessions[0].answer(NotSent("reset"))
        other, _ = send(courier)
        session = await another_session(backend)
        return [error.maybe_sent for error in told], session.posted == [other]

    assert run(scenario) == ([False], True)


def test_only_the_first_message_of_an_outage_waits_out_its_time():
    async def scenario(courier, backend):
        async def refuse(url):
            raise BrokerUnavailable("away")

        backend.connect = refuse
        backend.sessions[0].abort("reset")
        first, _ = send(courier, timeout=60)
        await asyncio.sleep(0)
        courier.expire(first)
        _, told = send(courier, timeout=60)
        return [type(error) for error in told]

    assert run(scenario) == [BrokerUnavailable]


def test_messages_wait_for_a_session_in_their_order():
    async def scenario(courier, backend):
        backend.sessions[0].abort("reset")
        sent = [send(courier)[0] for _ in range(5)]
        courier.drop(sent[2])
        session = await another_session(backend)
        return session.posted == [each for each in sent if each is not sent[2]]

    assert run(scenario)


# What must not be raised


def test_session_that_raises_is_told_as_a_publish_error_and_takes_no_room():
    async def scenario(courier, backend):
        def post(*_, **__):
            raise KeyError("t64")

        backend.sessions[0].post = post
        _, told = send(courier)
        await asyncio.wait_for(courier._window.emptied(), 5)
        return told

    [error] = run(scenario)
    assert type(error) is PublishError
    assert "KeyError: 't64'" in str(error)
    assert error.maybe_sent is False


def test_session_that_raises_for_one_message_of_a_bulk_fails_that_message_alone():
    async def scenario(courier, backend):
        session = backend.sessions[0]
        post = session.post

        def fragile_post(message, publication, settled, *, more=False):
            if publication.index == 1:
                raise KeyError("t64")
            post(message, publication, settled, more=more)
            session.answer()

        session.post = fragile_post
        bulk, chunk = bulk_of(3)
        await courier.deliver_chunk(chunk, asyncio.get_running_loop().time() + 5)
        bulk.settle(chunk)
        return bulk.result

    result = run(scenario)
    assert result.confirmed == 2
    assert {index: type(error) for index, error in result.errors.items()} == {1: PublishError}


def test_session_that_raises_for_one_who_waits_for_it_serves_the_others():
    async def scenario(courier, backend):
        backend.sessions[0].abort("reset")
        told = [send(courier)[1] for _ in range(3)]
        await another_session_that(backend, fails_at=1)
        return [len(each) for each in told], [type(each) for each in told[1]]

    async def another_session_that(backend, fails_at):
        connect, posts = backend.connect, []

        async def connect_to_fragile(url):
            session = await connect(url)

            def post(message, publication, settled, *, more=False):
                posts.append(publication)
                if len(posts) - 1 == fails_at:
                    raise KeyError("t64")
                settled(publication, None)

            session.post = post
            return session

        backend.connect = connect_to_fragile
        while len(posts) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)

    assert run(scenario) == ([1, 1, 1], [PublishError])


def test_session_that_cannot_withdraw_a_message_keeps_no_caller_waiting():
    async def scenario(courier, backend):
        def withdraw(publication):
            raise KeyError("t64")

        backend.sessions[0].withdraw = withdraw
        publication, told = send(courier)
        courier.expire(publication)
        await asyncio.wait_for(courier._window.emptied(), 5)
        return [type(error) for error in told]

    assert run(scenario) == [PublishTimeout]


def test_backend_whose_options_are_wrong_is_told_as_a_publish_error_and_takes_no_room():
    class WrongBackend(SlowBackend):
        @property
        def is_direct(self):
            raise TypeError("unexpected keyword argument")

    async def main():
        courier = Courier(WrongBackend())
        _, told = send(courier)
        await asyncio.wait_for(courier._window.emptied(), 5)
        return told

    [error] = asyncio.run(main())
    assert type(error) is PublishError
    assert "TypeError: unexpected keyword argument" in str(error)


# How much is in flight


def test_bulks_leave_room_for_single_messages():
    async def scenario(courier, backend):
        bulks = [bulk_of(20) for _ in range(2)]
        end = asyncio.get_running_loop().time() + 5
        tasks = [asyncio.create_task(courier.deliver_chunk(chunk, end)) for _, chunk in bulks]
        await until(lambda: courier._window.count == 6)
        told = [send(courier)[1] for _ in range(3)]
        in_flight = courier._window.count
        while any(not task.done() for task in tasks):
            if backend.sessions[0].posted:
                backend.sessions[0].answer()
            await asyncio.sleep(0)
        for bulk, chunk in bulks:
            bulk.settle(chunk)
        return in_flight, [type(error) for each in told for error in each], [b.result for b, _ in bulks]

    in_flight, outcomes, results = run(scenario, max_in_flight=8)
    assert in_flight == 8
    assert sorted(outcomes, key=str) == sorted([type(None), type(None), TooManyInFlight], key=str)
    assert [result.confirmed for result in results] == [20, 20]


def test_bulks_leave_room_for_the_bytes_of_single_messages(monkeypatch):
    monkeypatch.setattr(window, "MAX_IN_FLIGHT_BYTES", 8)

    async def scenario(courier, backend):
        _, chunk = bulk_of(20)
        task = asyncio.create_task(courier.deliver_chunk(chunk, asyncio.get_running_loop().time() + 5))
        await until(lambda: courier._window.count == 6)
        told = [send(courier)[1] for _ in range(3)]
        task.cancel()
        return [type(error) for each in told for error in each]

    assert run(scenario) == [TooManyInFlight]


@pytest.mark.parametrize("most", [1, 2])
def test_bulk_passes_the_narrowest_window(most):
    async def scenario(courier, backend):
        bulk, chunk = bulk_of(5)
        task = asyncio.create_task(courier.deliver_chunk(chunk, asyncio.get_running_loop().time() + 5))
        while not task.done():
            if backend.sessions[0].posted:
                backend.sessions[0].answer()
            await asyncio.sleep(0)
        return bulk.settle(chunk) and bulk.result.confirmed

    assert run(scenario, max_in_flight=most) == 5


# Stop


@pytest.mark.parametrize(
    ("written", "kind"), [(True, ConnectionLost), (False, BrokerUnavailable)], ids=["written", "not written"]
)
def test_message_that_is_in_flight_at_the_end_of_a_stop_is_told(written, kind):
    async def scenario(courier, backend):
        publication, told = send(courier, timeout=60)
        publication.maybe_sent = written
        backend.sessions[0].close = asyncio.Event().wait  # never ends, as on a link that is dead
        await courier.close(0.1)
        return [type(error) for error in told]

    assert run(scenario) == [kind]


def test_bulk_that_waits_for_room_is_told_at_the_end_of_a_stop():
    async def scenario(courier, backend):
        bulk, chunk = bulk_of(5)
        end = asyncio.get_running_loop().time() + 60
        task = asyncio.create_task(courier.deliver_chunk(chunk, end))
        await until(lambda: len(backend.sessions[0].posted) == 1)
        backend.sessions[0].posted[0].begin_sending()
        await courier.close(0.1)
        await task
        bulk.settle(chunk)
        return [type(bulk.result.errors[index]) for index in range(5)]

    assert run(scenario, max_in_flight=1) == [ConnectionLost] + [BrokerUnavailable] * 4


def test_stop_waits_for_a_bulk_that_waits_for_room():
    async def scenario(courier, backend):
        bulk, chunk = bulk_of(5)
        task = asyncio.create_task(courier.deliver_chunk(chunk, asyncio.get_running_loop().time() + 5))
        await until(lambda: backend.sessions[0].posted)
        closing = asyncio.create_task(courier.close(5))
        while not task.done():
            if backend.sessions[0].posted:
                backend.sessions[0].answer()
            await asyncio.sleep(0)
        await closing
        bulk.settle(chunk)
        return bulk.result.confirmed

    assert run(scenario, max_in_flight=1) == 5


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
            publication, _ = send(courier)
            session.heard = time.monotonic()
            courier.expire(publication)
            await timeout_passes(courier)
        return session.closed.done()

    assert not run(scenario)
