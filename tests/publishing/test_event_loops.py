import asyncio
import threading
import time

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from faststream import BaseMiddleware

from faststream_django import (
    Message,
    apublish,
    apublish_many,
    brokers,
    publish,
    publish_many,
    publish_on_commit,
)
from faststream_django.connection.bulk import CHUNK_MESSAGES
from faststream_django.exceptions import MessageUnroutable, TooManyInFlight
from tests.publishing.verbs import bodies


def refusal_of(async_function):
    with pytest.raises(SynchronousOnlyOperation) as refused:
        asyncio.run(async_function())
    return str(refused.value)


@pytest.mark.parametrize(
    ("verb", "twin"),
    [
        (publish, "apublish()"),
        (publish_many, "apublish_many()"),
        (publish_on_commit, "apublish_on_commit()"),
    ],
)
def test_sync_verb_is_refused_in_a_running_loop_and_names_its_twin(server, verb, twin):
    async def main():
        verb(["x"], "orders")

    text = refusal_of(main)

    assert twin in text
    assert f"{verb.__name__}()" in text
    assert bodies(server) == []


def test_sync_verb_in_a_running_loop_is_allowed_as_django_allows_it(server, monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    async def main():
        return publish("x", "orders")

    asyncio.run(main())

    assert bodies(server) == ["x"]


@pytest.mark.parametrize("verb", [publish, publish_many, publish_on_commit])
def test_sync_verb_is_refused_on_the_loop_thread_whatever_is_allowed(configure, monkeypatch, verb):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    class Publishing(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            verb(["x"], "orders")

    configure(Publishing)

    with pytest.raises(SynchronousOnlyOperation, match="loop thread"):
        publish("x", "orders")


def test_bulk_of_a_connection_is_refused_on_the_loop_thread(configure):
    """It would wait for itself until the deadline, and everybody with it."""
    refusals = []

    class Publishing(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            try:
                brokers["default"].send_many([Message.encode("inner", "orders")], 0.2)
            except RuntimeError as error:
                refusals.append(error)
            return await call_next(command)

    server = configure(Publishing)

    publish("x", "orders")

    assert len(refusals) == 1
    assert bodies(server) == ["x"]


def test_async_twin_works_on_the_loop_thread(configure):
    class Copying(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.destination == "orders":
                await apublish("copy", "copies")
            return await call_next(command)

    server = configure(Copying, QUEUES={"orders": {}, "copies": {}})

    publish("x", "orders")

    assert bodies(server) == ["x"]
    assert bodies(server, "copies") == ["copy"]


def test_sync_verb_works_from_async_code_through_a_thread(server):
    async def main():
        return await sync_to_async(publish)("x", "orders")

    asyncio.run(main())

    assert bodies(server) == ["x"]


def test_apublish_returns_the_id_once_it_is_confirmed(rabbitmq, rabbit_queue):
    message_id = asyncio.run(apublish("x", rabbit_queue))

    [stored] = rabbitmq.drain(rabbit_queue)
    assert stored.properties.message_id == message_id


def test_hundred_apublish_at_once_are_all_confirmed(rabbitmq, rabbit_queue):
    async def main():
        return await asyncio.gather(*(apublish(number, rabbit_queue) for number in range(100)))

    ids = asyncio.run(main())

    stored = rabbitmq.drain(rabbit_queue)
    assert sorted(message.properties.message_id for message in stored) == sorted(ids)
    assert len(rabbitmq.connections()) == 1


def test_apublish_fails_as_publish_does(server):
    with pytest.raises(MessageUnroutable):
        asyncio.run(apublish("x", "nowhere"))


def test_cancelled_apublish_ends_at_once_and_hurts_nobody(configure):
    entered = threading.Event()

    class Holding(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body == b"held":
                entered.set()
                await asyncio.Event().wait()
            return await call_next(command)

    server = configure(Holding, MAX_IN_FLIGHT=1)

    async def main():
        task = asyncio.create_task(apublish("held", "orders", timeout=60))
        await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            while True:  # its place is free once the loop thread has seen the cancellation
                try:
                    return await apublish("next", "orders")
                except TooManyInFlight:
                    await asyncio.sleep(0)

    asyncio.run(main())

    assert bodies(server) == ["next"]


def test_cancelled_apublish_many_does_not_wait_for_the_broker(mute):
    async def main():
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await apublish_many(range(2000), "orders", timeout=6)
        return time.monotonic() - started

    assert asyncio.run(main()) < 3


def test_cancelled_bulk_ends_while_its_source_is_slow(mute):
    """With three chunks under way and a fourth one open, to a server that never answers."""

    async def cancel():
        waits = asyncio.Event()

        async def source():
            for number in range(3 * CHUNK_MESSAGES + 1):
                yield number
            waits.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(apublish_many(source(), "orders", timeout=30))
        await waits.wait()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        return done

    assert asyncio.run(cancel())
