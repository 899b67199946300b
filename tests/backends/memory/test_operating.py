"""The queues of the embedded broker for an operator."""

import asyncio

import pytest
from pamqp.commands import Basic

from faststream_django.backends.memory.operating import MemoryOperatorSession
from faststream_django.backends.operating import OperationRefused, QueuedMessage
from faststream_django.conf.topology import QueueSettings
from tests.backends.memory.sessions import bodies, put


@pytest.fixture
def session(server):
    server.declare_queue("q")
    for body in (b"1", b"2", b"3"):
        put(server, "q", body, message_id=body.decode(), headers={"a": 1})
    return MemoryOperatorSession(server)


def message(body=b"x"):
    return QueuedMessage(body=body, properties=Basic.Properties())


def test_queues_are_counted(session):
    assert asyncio.run(session.count("q")) == 3
    assert asyncio.run(session.count("unknown")) is None


def test_what_is_taken_is_away_until_it_is_given_back(session, server):
    async def take():
        channel = await session.open_channel()
        taken = [await channel.take("q"), await channel.take("q")]
        waiting = server.count("q")
        await channel.close()
        return taken, waiting

    taken, waiting = asyncio.run(take())

    assert [(each.body, each.properties.message_id, each.headers) for each in taken] == [
        (b"1", "1", {"a": 1}),
        (b"2", "2", {"a": 1}),
    ]
    assert waiting == 1
    assert bodies(server, "q") == [b"1", b"2", b"3"]


def test_what_is_deleted_does_not_come_back(session, server):
    async def delete():
        channel = await session.open_channel()
        first, second = await channel.take("q"), await channel.take("q")
        await channel.delete(second)
        await channel.settle()
        await channel.close()
        return first

    asyncio.run(delete())

    assert bodies(server, "q") == [b"1", b"3"]


def test_empty_queue_gives_nothing_and_unknown_one_is_refused(session, server):
    server.queue("q").drain()

    async def take(queue):
        return await (await session.open_channel()).take(queue)

    assert asyncio.run(take("q")) is None
    with pytest.raises(OperationRefused, match="no queue 'unknown'"):
        asyncio.run(take("unknown"))


def test_message_is_put_as_it_is(session, server):
    asyncio.run(session.put(message(), "q"))

    assert bodies(server, "q")[-1] == b"x"


@pytest.mark.parametrize(("queue", "reason"), [("full", "is full"), ("unknown", "is not there")])
def test_queue_that_takes_nothing_is_told(session, server, queue, reason):
    server.declare_queue("full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})

    with pytest.raises(OperationRefused, match=reason):
        asyncio.run(session.put(message(), queue))


def test_message_that_the_server_refuses_is_told(session):
    properties = Basic.Properties(headers={"CC": "no list"})

    with pytest.raises(OperationRefused, match="unacceptable_type"):
        asyncio.run(session.put(QueuedMessage(body=b"", properties=properties), "q"))


def test_nothing_moves_by_transactions_here(session):
    assert not asyncio.run(session.moves_atomically(QueueSettings(name="q")))
    asyncio.run(session.close())
