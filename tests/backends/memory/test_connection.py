import asyncio
import logging
import tracemalloc

import pytest

from faststream_django.backends.memory.connection import attach
from tests.backends.memory.sessions import bodies, dead_letter_queue, put, rabbit_broker


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for runs on this loop
            await asyncio.sleep(0)


def test_subscriber_gets_the_message_and_its_answer_is_published(server):
    from faststream.rabbit import ExchangeType, RabbitExchange, RabbitQueue

    async def consume():
        broker = rabbit_broker()
        events = RabbitExchange("events", type=ExchangeType.TOPIC)

        @broker.subscriber(RabbitQueue("orders", routing_key="order.*"), events)
        @broker.publisher("out")
        async def handle(body: dict):
            return {"seen": body["id"]}

        server.declare_queue("out")
        await attach(server, broker)
        await broker.publish({"id": 1}, routing_key="order.created", exchange=events)
        await until(lambda: server.count("out"))
        await broker.stop()

    asyncio.run(consume())

    assert [message.decode() for message in server.drain("out")] == [{"seen": 1}]


def test_request_is_answered(server):
    async def request():
        broker = rabbit_broker()

        @broker.subscriber("double")
        async def double(number: int):
            return number * 2

        await attach(server, broker)
        answers = [await broker.request(number, "double", timeout=5) for number in (1, 2)]
        decoded = [await answer.decode() for answer in answers]
        await broker.stop()
        return decoded

    assert asyncio.run(request()) == [2, 4]
    assert [name for name in server._queues if name != "double"] == []


@pytest.mark.parametrize(
    ("error", "left", "dead"),
    [("NackMessage", 1, 0), ("RejectMessage", 0, 1), ("ValueError", 0, 1), ("AckMessage", 0, 0)],
)
def test_verdict_of_a_handler_decides_where_the_message_goes(server, error, left, dead):
    from faststream import exceptions
    from faststream.rabbit import RabbitQueue

    async def consume():
        broker, handled = rabbit_broker(graceful_timeout=0.01), asyncio.Event()

        @broker.subscriber(RabbitQueue("q", arguments={"x-dead-letter-exchange": "dlx"}))
        async def handle(body):
            if handled.is_set():
                await asyncio.Event().wait()  # what comes again is not settled
            handled.set()
            raise getattr(exceptions, error, ValueError)

        await attach(server, broker)
        await broker.publish("x", "q")
        await handled.wait()
        await broker.stop()

    dead_letter_queue(server)
    asyncio.run(consume())

    assert (server.count("q"), server.count("dead")) == (left, dead)


def test_returned_message_comes_first_and_is_marked(server):
    from faststream.exceptions import NackMessage
    from faststream.rabbit import Channel
    from faststream.rabbit.annotations import RabbitMessage

    async def consume():
        broker = rabbit_broker(default_channel=Channel(prefetch_count=1))
        seen, done = [], asyncio.Event()

        @broker.subscriber("q")
        async def handle(body: str, message: RabbitMessage):
            seen.append((body, message.raw_message.redelivered))
            if len(seen) == 1:
                raise NackMessage
            if len(seen) == 3:
                done.set()

        server.declare_queue("q")
        put(server, "q", b"first")
        put(server, "q", b"second")
        await attach(server, broker)
        async with asyncio.timeout(5):
            await done.wait()
        await broker.stop()
        return seen

    assert asyncio.run(consume()) == [
        ("first", False),
        ("first", True),
        ("second", False),
    ]


def test_subscriber_has_no_more_in_hand_than_its_prefetch(server):
    from faststream.rabbit import Channel

    async def consume():
        broker = rabbit_broker(default_channel=Channel(prefetch_count=10))
        release, running, most = asyncio.Event(), 0, 0

        @broker.subscriber("q")
        async def handle(body):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1

        await attach(server, broker)
        for _ in range(25):
            await broker.publish("x", "q")
        await until(lambda: running == 10)
        waiting = server.count("q")
        release.set()
        await until(lambda: not server.count("q") and not running)
        await broker.stop()
        return most, waiting

    assert asyncio.run(consume()) == (10, 15)


def test_stopped_broker_gives_back_what_its_handlers_did_not_finish(server):
    async def consume():
        broker = rabbit_broker(graceful_timeout=0.01)
        started = asyncio.Event()

        @broker.subscriber("q")
        async def handle(body):
            started.set()
            await asyncio.Event().wait()

        await attach(server, broker)
        await broker.publish("x", "q")
        await started.wait()
        await broker.stop()

    asyncio.run(consume())

    assert bodies(server, "q") == [b"x"]


def test_missing_queue_is_the_drivers_error(server):
    from aiormq.exceptions import ChannelNotFoundEntity
    from faststream.rabbit import RabbitQueue

    async def consume():
        broker = rabbit_broker()

        @broker.subscriber(RabbitQueue("missing", declare=False))
        async def handle(body): ...

        await attach(server, broker)

    with pytest.raises(ChannelNotFoundEntity, match="no queue 'missing'"):
        asyncio.run(consume())


def test_memory_stays_flat_while_messages_pass_through_a_subscriber(server):
    from faststream.rabbit import Channel

    async def consume(total):
        channel = Channel(prefetch_count=10)
        broker, handled = rabbit_broker(default_channel=channel, log_level=logging.DEBUG), 0

        @broker.subscriber("q")
        async def handle(body):
            nonlocal handled
            handled += 1

        await attach(server, broker)
        sizes = []
        for number in range(total):
            await broker.publish(b"x" * 200, "q")
            await until(lambda: server.count("q") < 50)
            if number in {total // 10, total - 1}:
                sizes.append(tracemalloc.get_traced_memory()[0])
        await until(lambda: handled == total)
        await broker.stop()
        return sizes

    tracemalloc.start()
    before, after = asyncio.run(consume(8_000))
    tracemalloc.stop()

    assert after - before < 300_000  # 40 bytes for each message: less than any object
