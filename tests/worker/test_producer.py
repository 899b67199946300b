"""What the code of a worker publishes, on RabbitMQ and on the embedded broker."""

import asyncio
import logging
import threading
import uuid
from contextlib import asynccontextmanager

import aio_pika
import pytest
from faststream import BaseMiddleware
from faststream.rabbit import RabbitMessage, RabbitResponse, RabbitRouter

from faststream_django import apublish, arequest, brokers, request
from faststream_django.backends.memory.connection import attach
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import (
    BrokerUnavailable,
    InvalidMessage,
    MessageUnroutable,
    RequestFailed,
)
from faststream_django.loop import loop_thread
from faststream_django.signals import message_failed, message_published
from faststream_django.worker import replies
from faststream_django.worker.broker import build_broker
from faststream_django.worker.consumer import Consumer
from tests.waiting import wait_until


@pytest.fixture
def rabbit(settings, rabbitmq):
    """The node as the broker of "default", with queues of their own; they are deleted at the end."""
    prefix = f"producer-{uuid.uuid4().hex[:8]}-"
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url(), "QUEUES": {f"{prefix}done": {}}}}
    yield prefix
    brokers.stop(1)
    rabbitmq.recover()
    rabbitmq.delete_queue(*(f"{prefix}{name}" for name in ("in", "done", "middle")))


@pytest.fixture
def memory(settings):
    url = f"memory://{uuid.uuid4().hex}"
    settings.FASTSTREAM = {"default": {"URL": url, "QUEUES": {"done": {}}}}
    yield MemoryServer.get(url)
    brokers.stop(1)


@asynccontextmanager
async def consuming(router):
    consumer = Consumer(broker_settings("default"), [router])
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.finish(5)


def published(*, payload="x", middlewares=(), **options):
    """Publish as the code of a worker does: with ``broker.publish()``."""
    broker = build_broker(broker_settings("default"), [RabbitRouter()])
    asyncio.run(broker.publish(payload, "done", **options))


# What is published


def test_everything_is_persistent_confirmed_and_has_an_id(memory):
    published(payload={"id": 1}, headers={"tenant": "blue"}, priority=2, message_type="order.done")

    [message] = memory.drain("done")
    assert message.decode() == {"id": 1}
    assert message.persist
    assert message.message_id
    assert message.headers == {"tenant": "blue"}
    assert (message.priority, message.message_type) == (2, "order.done")


@pytest.mark.parametrize("payload", [{"id": 1}, "text", b"bytes", 3, None])
def test_body_is_what_faststream_makes_of_it(memory, payload):
    published(payload=payload)

    [message] = memory.drain("done")
    assert message.decode() == (b"" if payload is None else payload)


def test_message_of_aio_pika_keeps_its_properties(memory):
    published(payload=aio_pika.Message(b"x", message_id="m-1", correlation_id="c-1", headers={"a": 1}))

    [message] = memory.drain("done")
    assert (message.body, message.message_id, message.correlation_id) == (b"x", "m-1", "c-1")
    assert message.headers == {"a": 1}
    assert message.persist


def test_unroutable_message_is_an_error_unless_it_is_not_mandatory(memory):
    broker = build_broker(broker_settings("default"), [RabbitRouter()])

    with pytest.raises(MessageUnroutable):
        asyncio.run(broker.publish("x", "nowhere"))
    asyncio.run(broker.publish("x", "nowhere", mandatory=False))


@pytest.mark.parametrize("options", [{"user_id": "guest"}, {"immediate": True}])
def test_what_rabbitmq_would_close_the_channel_for_is_refused(memory, options):
    with pytest.raises(InvalidMessage, match=f"{next(iter(options))} is set"):
        published(**options)


def test_body_over_the_limit_is_refused(memory, settings):
    settings.FASTSTREAM = {"default": {**settings.FASTSTREAM["default"], "MAX_MESSAGE_BYTES": 10}}

    with pytest.raises(InvalidMessage, match="MAX_MESSAGE_BYTES"):
        published(payload="x" * 11)


def test_outage_ends_within_the_timeout(settings, unreachable_port):
    settings.FASTSTREAM = {"default": {"URL": f"amqp://127.0.0.1:{unreachable_port}/", "TIMEOUT": 0.2}}

    with pytest.raises(BrokerUnavailable):
        published()
    brokers.stop(0.1)


def test_publish_middlewares_run_once(memory, settings):
    class Counting(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            command.headers["seen"] = command.headers.get("seen", 0) + 1
            return await call_next(command)

    settings.FASTSTREAM = {
        "default": {**settings.FASTSTREAM["default"], "OPTIONS": {"middlewares": [Counting]}}
    }
    published()

    assert memory.drain("done")[0].headers == {"seen": 1}


def test_publish_is_announced_and_its_failure_is_not(memory):
    heard = []

    def receive(sender, message, signal, **kwargs):
        heard.append((signal, message.decode()))

    for signal in (message_published, message_failed):
        signal.connect(receive)
    broker = build_broker(broker_settings("default"), [RabbitRouter()])
    asyncio.run(broker.publish("x", "done"))
    with pytest.raises(MessageUnroutable):
        asyncio.run(broker.publish("y", "nowhere"))
    for signal in (message_published, message_failed):
        signal.disconnect(receive)

    assert heard == [(message_published, "x")]


def test_publish_that_cannot_be_announced_is_not_a_failed_one(memory, monkeypatch, caplog):
    async def fail(message, alias):
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(replies, "aannounce", fail)
    published()

    assert len(memory.drain("done")) == 1
    assert "state=not-announced" in caplog.text


# From handlers


def test_returned_value_is_published_before_the_message_is_settled(rabbit, rabbitmq):
    router = RabbitRouter()

    @router.subscriber(f"{rabbit}in")
    @router.publisher(f"{rabbit}done")
    async def handle(order: dict):
        return {"done": order["id"]}

    async def main():
        async with consuming(router):
            await apublish({"id": 1}, f"{rabbit}in")
            await asyncio.to_thread(wait_until, lambda: rabbitmq.count(f"{rabbit}done"))

    asyncio.run(main())

    [stored] = rabbitmq.drain(f"{rabbit}done")
    assert stored.body == b'{"done":1}'
    assert stored.properties.delivery_mode == 2
    assert rabbitmq.count(f"{rabbit}in") == 0


def test_answer_arrives_after_the_connection_was_lost(rabbit, rabbitmq):
    """FastStream's own producer publishes on the connection that the message came through."""
    router = RabbitRouter()
    running, go = threading.Event(), threading.Event()

    @router.subscriber(f"{rabbit}in")
    @router.publisher(f"{rabbit}done")
    def handle(order: dict):
        running.set()
        go.wait(10)
        return {"done": order["id"]}

    async def main():
        async with consuming(router):
            await apublish({"id": 1}, f"{rabbit}in")
            await asyncio.to_thread(running.wait, 10)
            await asyncio.to_thread(rabbitmq.close_all_connections)
            go.set()
            await asyncio.to_thread(wait_until, lambda: rabbitmq.count(f"{rabbit}done"))

    asyncio.run(main())

    assert [stored.body for stored in rabbitmq.drain(f"{rabbit}done")] == [b'{"done":1}']


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_returned_value_answers_a_request(rabbit, kind):
    router = RabbitRouter()
    if kind == "sync":

        @router.subscriber(f"{rabbit}in")
        def handle(number: int):
            return number * 2
    else:

        @router.subscriber(f"{rabbit}in")
        async def handle(number: int):
            return number * 2

    async def main():
        async with consuming(router):
            one = await asyncio.to_thread(request, 7, f"{rabbit}in")
            return one, await asyncio.gather(*(arequest(number, f"{rabbit}in") for number in range(50)))

    assert asyncio.run(main()) == (14, [number * 2 for number in range(50)])


class OutOfStock(Exception):
    pass


def test_failing_handler_answers_at_once_with_the_name_of_its_error(rabbit):
    router = RabbitRouter()

    @router.subscriber(f"{rabbit}in")
    def handle(number: int):
        raise OutOfStock("secret")

    async def main():
        async with consuming(router):
            for payload, name in ((7, "OutOfStock"), ("seven", "ValidationError")):
                with pytest.raises(RequestFailed) as raised:
                    await arequest(payload, f"{rabbit}in", timeout=20)
                assert raised.value.error_type == name
                assert "secret" not in str(raised.value)

    asyncio.run(main())


def test_failing_handler_of_the_embedded_broker_answers_too(replying):
    async def handle(body: str):
        raise OutOfStock("secret")

    replying(handle)

    with pytest.raises(RequestFailed, match="'OutOfStock'"):
        request("x", "in", timeout=20)


def test_handler_may_ask_another_one(rabbit):
    router = RabbitRouter()

    @router.subscriber(f"{rabbit}in")
    def first(number: int):
        return request(number, f"{rabbit}middle") + 1

    @router.subscriber(f"{rabbit}middle")
    async def second(number: int):
        return number * 2

    async def main():
        async with consuming(router):
            return await arequest(7, f"{rabbit}in")

    assert asyncio.run(main()) == 15


def test_request_of_the_broker_that_runs_the_handler_is_ours_too(rabbit):
    router = RabbitRouter()

    @router.subscriber(f"{rabbit}in")
    async def handle(number: int, message: RabbitMessage):
        return RabbitResponse({"twice": number * 2, "correlation": message.correlation_id})

    async def main():
        async with consuming(router) as consumer:
            reply = await consumer.broker.request(7, f"{rabbit}in", correlation_id="mine", timeout=5)
            with pytest.raises(MessageUnroutable):
                await consumer.broker.request(7, "nowhere", timeout=20)
            return await reply.decode(), reply.correlation_id

    decoded, correlation_id = asyncio.run(main())
    assert decoded["twice"] == 14
    assert decoded["correlation"] != "mine"
    assert correlation_id == "mine"


# Replies that are lost


@pytest.fixture
def replying(memory):
    """Have a handler of the embedded broker answer the queue "in"."""

    def replying(handler):
        router = RabbitRouter()
        router.subscriber("in")(handler)
        broker = build_broker(broker_settings("default"), [router])
        loop_thread.run(attach, memory, broker, timeout=5)

    return replying


def test_reply_that_nobody_waits_for_does_not_reject_handled_work(memory, replying, caplog):
    async def handle(body: str):
        return "answer"

    replying(handle)
    with caplog.at_level(logging.WARNING, "faststream_django.worker"):
        asyncio.run(apublish("x", "in", reply_to="gone", correlation_id="c-1"))
        wait_until(lambda: caplog.records)

    [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.levelname == "WARNING"
    assert "queue='in' correlation_id='c-1' state=reply-lost" in record.getMessage()
    assert "nobody waits for it any more" in record.getMessage()


def test_value_that_cannot_be_a_reply_is_told_to_the_requester(replying, caplog):
    async def handle(body: str):
        return object()

    replying(handle)

    with pytest.raises(RequestFailed, match="PydanticSerializationError"):
        request("x", "in")
    assert "state=reply-not-encoded" in caplog.text


def test_reply_may_be_transient_and_not_mandatory(memory, replying):
    async def handle(body: str):
        return RabbitResponse("answer", persist=body == "kept", mandatory=False)

    replying(handle)
    for body in ("kept", "transient"):
        asyncio.run(apublish(body, "in", reply_to="done"))
        wait_until(lambda: memory.count("done"))

        assert memory.drain("done")[0].persist is (body == "kept")


def test_handler_that_waits_in_vain_has_a_deadline(memory, replying):
    async def handle(body: str):
        return await arequest(body, "done", timeout=0.1)

    replying(handle)

    with pytest.raises(RequestFailed, match="its handler raised 'RequestTimeout'"):
        request("x", "in", timeout=10)
