import asyncio

import pytest

from faststream_django.backends.base import NotSent, Publication
from faststream_django.backends.memory import MemoryBackend
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.conf import broker_settings_from
from faststream_django.exceptions import BrokerUnavailable, MessageRejected, MessageUnroutable
from faststream_django.messages import Message


async def connect(url, **entry):
    backend = MemoryBackend(broker_settings_from("default", {"URL": url, **entry}))
    return await backend.connect(url)


async def send(session, payload="x", queue="", exchange=None, **options):
    message = Message.encode(payload, queue, exchange, **options)
    verdict = asyncio.get_running_loop().create_future()
    session.post(message, Publication(message, "default"), lambda _, result: verdict.set_result(result))
    if error := await verdict:
        raise error


def test_session_confirms_once_the_message_is_in_the_queue(url):
    async def publish():
        session = await connect(url, QUEUES={"orders": {}})
        await send(session, {"id": 1}, "orders", headers={"a": 1})
        await session.close()

    asyncio.run(publish())

    [message] = MemoryServer.get(url).drain("orders")
    assert message.decode() == {"id": 1}
    assert message.headers == {"a": 1}
    assert message.content_type == "application/json"


def test_session_declares_the_topology_of_the_settings(url):
    async def publish():
        session = await connect(
            url,
            EXCHANGES={"all": {"type": "fanout"}, "events": {"type": "topic", "bind": {"all": ""}}},
            QUEUES={"orders": {"bind": {"events": ["order.#"]}}},
        )
        await send(session, exchange="all", routing_key="order.created")

    asyncio.run(publish())

    assert MemoryServer.get(url).count("orders") == 1


def test_unroutable_message_is_an_error(url):
    async def publish():
        await send(await connect(url), queue="nowhere")

    with pytest.raises(MessageUnroutable, match="no queue is bound"):
        asyncio.run(publish())


def test_unroutable_message_is_dropped_if_it_is_not_mandatory(url):
    async def publish():
        await send(await connect(url), queue="nowhere", mandatory=False)

    asyncio.run(publish())


def test_missing_exchange_is_an_error_that_names_it(url):
    async def publish():
        await send(await connect(url), exchange="nowhere")

    with pytest.raises(MessageUnroutable, match="NOT_FOUND - no exchange 'nowhere'"):
        asyncio.run(publish())


def test_full_queue_is_an_error(url):
    arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}

    async def publish():
        await send(await connect(url, QUEUES={"q": {"arguments": arguments}}), queue="q")

    with pytest.raises(MessageRejected):
        asyncio.run(publish())


def test_failed_declaration_is_told_with_the_unroutable_message(url, caplog):
    MemoryServer.get(url).declare_queue("q", durable=False)
    MemoryServer.get(url).delete_queue(MemoryServer.get(url).queue("q"))

    async def publish():
        session = await connect(url, QUEUES={"q": {}}, DECLARE="passive")
        await send(session, queue="q")

    with pytest.raises(MessageUnroutable, match=r"Declaring 'q' had failed: .*NOT_FOUND"):
        asyncio.run(publish())
    assert "NOT_FOUND" in caplog.text


def test_closed_session_sends_nothing(url):
    async def publish():
        session = await connect(url, QUEUES={"q": {}})
        await session.close()
        await send(session, queue="q")

    with pytest.raises(NotSent):
        asyncio.run(publish())
    assert MemoryServer.get(url).count("q") == 0


def test_stopped_broker_loses_its_publishers_and_takes_no_others(url):
    async def publish():
        server = MemoryServer.get(url)
        session = await connect(url, QUEUES={"orders": {}})

        server.stop()

        assert await session.closed == "the embedded broker was stopped"
        with pytest.raises(NotSent):
            await send(session, queue="orders")
        with pytest.raises(BrokerUnavailable, match="was stopped"):
            await connect(url)
        server.start()
        await send(await connect(url), queue="orders")
        await session.close()

    asyncio.run(publish())

    assert MemoryServer.get(url).count("orders") == 1


def test_broker_is_stopped_after_the_loop_of_a_publisher_has_ended(url):
    asyncio.run(connect(url))

    MemoryServer.get(url).stop()

    assert MemoryServer.get(url).is_stopped
