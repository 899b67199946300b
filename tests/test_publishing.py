"""The verbs, on the embedded broker, and on RabbitMQ where only it can tell."""

import asyncio
import logging
import signal
import threading
import time
import uuid
from contextlib import suppress
from contextvars import ContextVar
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from faststream import BaseMiddleware

from faststream_django import (
    Message,
    apublish,
    apublish_many,
    apublish_on_commit,
    brokers,
    publish,
    publish_many,
    publish_on_commit,
)
from faststream_django.backends.memory.refusals import ServerRefused
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.connection.bulk import CHUNK_MESSAGES, CHUNKS_UNDER_WAY, MOST_ERRORS
from faststream_django.exceptions import (
    BrokerDoesNotExist,
    BrokerUnavailable,
    BulkPublishError,
    InvalidMessage,
    MessageRejected,
    MessageUnroutable,
    PublishError,
    PublishTimeout,
    TooManyInFlight,
)
from faststream_django.signals import message_failed, message_published
from tests.integration.test_rabbitmq import wait_until

ROOMY = {"arguments": {"x-max-length": 100_000}}  # without a consumer it would keep 1,000


@pytest.fixture
def configure(settings):
    """Set FASTSTREAM to the embedded broker with a queue; return the broker."""
    url = f"memory://{uuid.uuid4().hex}"

    def configure(*middlewares, **entry):
        settings.FASTSTREAM = {
            "default": {
                "URL": url,
                "QUEUES": {"orders": ROOMY},
                "OPTIONS": {"middlewares": middlewares} if middlewares else {},
                **entry,
            }
        }
        return MemoryServer.get(url)

    yield configure
    brokers.stop(1)


@pytest.fixture
def server(configure):
    return configure()


@pytest.fixture
def rabbit_queue(settings, rabbitmq):
    """A queue of RabbitMQ, which is the broker meanwhile."""
    name = rabbitmq.declare_queue()
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url()}}
    yield name
    brokers.stop()
    rabbitmq.recover()
    rabbitmq.delete_queue(name)


@pytest.fixture
def away(settings, unreachable_port):
    settings.FASTSTREAM = {"default": {"URL": f"amqp://guest:guest@127.0.0.1:{unreachable_port}/"}}
    yield
    brokers.stop(0.1)


@pytest.fixture
def mute(settings, counting_port):
    settings.FASTSTREAM = {"default": {"URL": counting_port.url}}
    yield
    brokers.stop(0.1)


@pytest.fixture
def heard():
    """What the receivers of both signals were called with, and in which thread."""
    received = []

    def receive(sender, signal, **arguments):
        arguments["thread"] = threading.current_thread()
        received.append((sender, signal, arguments))

    for each in (message_published, message_failed):
        each.connect(receive)
    yield received
    for each in (message_published, message_failed):
        each.disconnect(receive)


def bodies(server, queue="orders"):
    try:
        return [message.decode() for message in server.drain(queue)]
    except ServerRefused:  # nothing has connected, so the queue is not declared
        return []


def refusal_of(async_function):
    with pytest.raises(SynchronousOnlyOperation) as refused:
        asyncio.run(async_function())
    return str(refused.value)


# What publish() does


def test_publish_returns_the_id_of_the_message_in_the_queue(server):
    message_id = publish({"number": 1}, "orders")

    [message] = server.drain("orders")
    assert message.message_id == message_id
    assert message.decode() == {"number": 1}


def test_given_message_id_is_kept(server):
    given = uuid.uuid4()

    message_id = publish("x", "orders", message_id=given)

    assert message_id == str(given)
    assert server.drain("orders")[0].message_id == str(given)


def test_each_message_has_an_id_of_its_own(server):
    assert publish("x", "orders") != publish("x", "orders")


def test_message_is_persistent_by_default(server):
    publish("x", "orders")
    publish("x", "orders", persist=False)

    assert [message.persist for message in server.drain("orders")] == [True, False]


def test_unroutable_message_is_an_error_by_default(server):
    with pytest.raises(MessageUnroutable) as raised:
        publish("x", "nowhere", message_id="lost")

    assert raised.value.message_id == "lost"
    assert raised.value.broker == "default"
    assert raised.value.maybe_sent is False
    assert "'nowhere'" in str(raised.value)


def test_unroutable_message_is_dropped_when_it_is_not_mandatory(server):
    publish("x", "nowhere", mandatory=False)


def test_properties_arrive_on_rabbitmq(rabbitmq, rabbit_queue):
    message_id = publish(
        {"number": 1},
        rabbit_queue,
        headers={"tenant": "blue"},
        correlation_id="order-1",
        reply_to="answers",
        priority=3,
        message_type="order.created",
        expiration=timedelta(hours=1),
    )

    [stored] = rabbitmq.drain(rabbit_queue)
    properties = stored.properties
    assert stored.body == b'{"number":1}'
    assert properties.message_id == message_id
    assert properties.correlation_id == "order-1"
    assert properties.content_type == "application/json"
    assert properties.headers == {"tenant": "blue"}
    assert properties.reply_to == "answers"
    assert properties.priority == 3
    assert properties.type == "order.created"
    assert properties.expiration == "3600000"
    assert properties.delivery_mode == 2


def test_exchange_and_routing_key_decide_where_it_goes(rabbitmq, rabbit_queue):
    rabbitmq.bind(rabbit_queue, "amq.topic", "order.*")

    publish("x", exchange="amq.topic", routing_key="order.created")

    [stored] = rabbitmq.drain(rabbit_queue)
    assert (stored.exchange, stored.routing_key) == ("amq.topic", "order.created")


def test_next_publish_works_after_each_refusal(rabbitmq, rabbit_queue):
    for options in ({"queue": "nowhere"}, {"exchange": "missing", "queue": "x"}):
        with pytest.raises(MessageUnroutable):
            publish("lost", **options)
        publish("fine", rabbit_queue)

    assert [stored.body for stored in rabbitmq.drain(rabbit_queue)] == [b"fine", b"fine"]


def test_payload_is_encoded_in_the_thread_of_the_caller(server):
    threads = []

    def numbers():
        threads.append(threading.current_thread())
        yield 1

    publish(numbers(), "orders")

    assert threads == [threading.current_thread()]


def test_message_can_be_the_payload(server):
    message = Message.encode({"number": 1}, "orders", headers={"tenant": "blue"})

    message_id = publish(message)

    [stored] = server.drain("orders")
    assert message_id == stored.message_id == message.message_id
    assert stored.headers == {"tenant": "blue"}


@pytest.mark.parametrize(
    "destination", [{"queue": "orders"}, {"exchange": "events"}, {"routing_key": "x"}, {"headers": None}]
)
@pytest.mark.parametrize("verb", [publish, publish_on_commit])
@pytest.mark.django_db
def test_message_has_its_destination_already(server, verb, destination):
    message = Message.encode("x", "orders")

    with pytest.raises(TypeError, match="has its destination"):
        verb(message, **destination)

    assert bodies(server) == []


def test_message_takes_broker_and_timeout(server):
    publish(Message.encode("x", "orders"), broker="default", timeout=2)

    assert bodies(server) == ["x"]


# Wrong arguments


EVERY_VERB = [publish, publish_many, publish_on_commit, apublish, apublish_many, apublish_on_commit]


def run(verb, *arguments, **options):
    """Call a verb, an async one in a loop of its own."""

    async def main():
        return await verb(*arguments, **options)

    return asyncio.run(main()) if asyncio.iscoroutinefunction(verb) else verb(*arguments, **options)


def call(verb, payload, *arguments, **options):
    """Call a verb with one payload."""
    payload = [payload] if verb in (publish_many, apublish_many) else payload
    return run(verb, payload, *arguments, **options)


@pytest.mark.parametrize("verb", [publish, publish_many, apublish, apublish_many])
def test_database_alias_is_refused_with_a_hint(server, verb):
    with pytest.raises(TypeError, match=r"'using' \(did you mean broker=\?\)"):
        call(verb, "x", "orders", using="default")

    assert bodies(server) == []


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_unknown_keyword_is_refused_with_a_hint(server, verb):
    with pytest.raises(TypeError, match=r"'header' \(did you mean headers=\?\)"):
        call(verb, "x", "orders", header={})


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_unknown_keyword_without_a_likeness_is_refused_without_a_hint(server, verb):
    with pytest.raises(TypeError, match=r"argument 'zzz'$"):
        call(verb, "x", "orders", zzz=1)


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_unknown_alias_is_refused_with_a_hint(server, verb):
    with pytest.raises(BrokerDoesNotExist, match=r"'defualt' \(did you mean 'default'\?\)"):
        call(verb, "x", "orders", broker="defualt")


WRONG_TIMEOUTS = [0, -1, True, "5", float("nan"), float("inf"), 1e10, timedelta(0), timedelta(days=400)]


@pytest.mark.parametrize("timeout", WRONG_TIMEOUTS, ids=repr)
@pytest.mark.parametrize("verb", EVERY_VERB)
@pytest.mark.django_db
def test_wrong_timeout_is_refused_before_anything_is_sent(server, verb, timeout):
    with pytest.raises(InvalidMessage, match="timeout"):
        call(verb, "x", "orders", timeout=timeout)

    publish("next", "orders")
    assert bodies(server) == ["next"]


@pytest.mark.parametrize("timeout", [2, 2.5, timedelta(seconds=2)])
def test_timeout_may_be_whole_or_not_or_a_timedelta(server, timeout):
    publish("x", "orders", timeout=timeout)

    assert bodies(server) == ["x"]


@pytest.mark.parametrize("verb", [publish, apublish])
def test_bad_payload_is_refused_and_sends_no_signal(server, heard, verb):
    with pytest.raises(InvalidMessage, match="NaN"):
        call(verb, float("nan"), "orders")

    assert heard == []
    assert bodies(server) == []


# Event loops


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


# Many


def test_publish_many_returns_the_number_of_confirmed_messages(server):
    assert publish_many(range(5), "orders") == 5
    assert bodies(server) == [0, 1, 2, 3, 4]


def test_apublish_many_takes_both_kinds_of_iterables(server):
    async def numbers():
        for number in range(3):
            yield number

    async def main():
        return await apublish_many(numbers(), "orders"), await apublish_many([3, 4], "orders")

    assert asyncio.run(main()) == (3, 2)
    assert bodies(server) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_nothing_to_publish_is_nothing(away, verb):
    assert run(verb, [], "orders") == 0


def test_messages_of_many_chunks_keep_their_order(server):
    count = CHUNK_MESSAGES * 4 + 1

    assert publish_many(range(count), "orders") == count
    assert bodies(server) == list(range(count))


def test_messages_of_many_chunks_keep_their_order_in_a_narrow_window(configure):
    server = configure(MAX_IN_FLIGHT=3)

    publish_many(range(CHUNK_MESSAGES * 4), "orders")

    assert bodies(server) == list(range(CHUNK_MESSAGES * 4))


def test_messages_of_many_chunks_keep_their_order_on_a_connection_that_is_being_made(rabbitmq, rabbit_queue):
    """The chunks wait together, and the first message for an exchange travels alone."""
    messages = [Message.encode(number, rabbit_queue) for number in range(CHUNK_MESSAGES * 3)]

    publish_many(messages)

    stored = rabbitmq.drain(rabbit_queue)
    assert [int(message.body) for message in stored] == list(range(CHUNK_MESSAGES * 3))


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_generator_is_read_in_the_thread_of_the_caller_and_little_ahead(server, verb):
    read, confirmed, ahead, threads = 0, 0, [], set()

    def receive(sender, **arguments):
        nonlocal confirmed
        confirmed += 1

    def numbers():
        nonlocal read
        for number in range(CHUNK_MESSAGES * 5):
            threads.add(threading.current_thread())
            read += 1
            ahead.append(read - confirmed)
            yield number

    message_published.connect(receive)
    run(verb, numbers(), "orders")
    message_published.disconnect(receive)

    assert threads == {threading.current_thread()}
    assert max(ahead) <= CHUNK_MESSAGES * CHUNKS_UNDER_WAY
    assert confirmed == CHUNK_MESSAGES * 5


def test_items_may_be_messages_with_their_own_destination(configure):
    server = configure(QUEUES={"orders": {}, "events": {}})
    message = Message.encode("event", "events", message_id="event-1")

    assert publish_many(["order", message], "orders") == 2

    assert bodies(server) == ["order"]
    assert [stored.message_id for stored in server.drain("events")] == ["event-1"]


def test_options_hold_for_each_item(server):
    publish_many(range(2), "orders", headers={"tenant": "blue"}, persist=False)

    stored = server.drain("orders")
    assert [message.headers for message in stored] == [{"tenant": "blue"}] * 2
    assert [message.persist for message in stored] == [False, False]
    assert len({message.message_id for message in stored}) == 2


def test_invalid_items_are_told_by_index_and_the_others_sent(server):
    with pytest.raises(BulkPublishError) as raised:
        publish_many([0, float("nan"), 2, object(), 4], "orders")

    assert sorted(raised.value.errors) == [1, 3]
    assert all(isinstance(error, InvalidMessage) for error in raised.value.errors.values())
    assert raised.value.confirmed == 3
    assert bodies(server) == [0, 2, 4]


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_unroutable_items_are_told_by_index_and_the_others_confirmed(server, verb):
    items = [Message.encode(n, "nowhere" if n % 2 else "orders") for n in range(5)]

    with pytest.raises(BulkPublishError) as raised:
        run(verb, items)

    errors = raised.value.errors
    assert sorted(errors) == [1, 3]
    assert {index: error.message_id for index, error in errors.items()} == {
        1: items[1].message_id,
        3: items[3].message_id,
    }
    assert raised.value.confirmed == 3
    assert raised.value.maybe_sent is False
    assert raised.value.broker == "default"
    assert bodies(server) == [0, 2, 4]


def test_unroutable_items_are_told_by_index_on_rabbitmq(rabbitmq, rabbit_queue):
    items = [Message.encode(n, "nowhere" if n in (0, 7) else rabbit_queue) for n in range(50)]

    with pytest.raises(BulkPublishError) as raised:
        publish_many(items)

    assert sorted(raised.value.errors) == [0, 7]
    assert all(isinstance(error, MessageUnroutable) for error in raised.value.errors.values())
    assert raised.value.confirmed == 48
    assert rabbitmq.count(rabbit_queue) == 48


def test_full_queue_refuses_items_one_by_one(configure):
    limit = {"arguments": {"x-max-length": 2, "x-overflow": "reject-publish"}}
    configure(QUEUES={"orders": limit})

    with pytest.raises(BulkPublishError) as raised:
        publish_many(range(4), "orders")

    assert sorted(raised.value.errors) == [2, 3]
    assert all(isinstance(error, MessageRejected) for error in raised.value.errors.values())


@pytest.mark.parametrize("read", [3, CHUNK_MESSAGES + 3])
def test_iterable_that_fails_is_told_once_its_earlier_messages_are_settled(server, heard, read):
    def numbers():
        yield from range(read)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        publish_many(numbers(), "orders")

    assert bodies(server) == list(range(read))
    assert len(heard) == read


def test_async_iterable_that_fails_is_told_once_its_earlier_messages_are_settled(server):
    async def numbers():
        for number in range(3):
            yield number
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        asyncio.run(apublish_many(numbers(), "orders"))

    assert bodies(server) == [0, 1, 2]


def arrived(server, queue="orders"):
    try:
        return server.count(queue)
    except ServerRefused:
        return 0


def test_slow_source_keeps_nothing_back(server):
    """Each message arrives while the source waits for the world to go on."""

    def numbers():
        for number in range(3):
            yield number
            wait_until(lambda count=number + 1: arrived(server) == count)

    assert publish_many(numbers(), "orders") == 3
    assert bodies(server) == [0, 1, 2]


def test_slow_asynchronous_source_keeps_nothing_back(server):
    async def numbers():
        for number in range(3):
            yield number
            async with asyncio.timeout(10):
                while arrived(server) != number + 1:  # noqa: ASYNC110 - another loop brings it there
                    await asyncio.sleep(0.005)

    assert asyncio.run(apublish_many(numbers(), "orders")) == 3
    assert bodies(server) == [0, 1, 2]


def test_source_that_is_slow_now_and_then_keeps_the_order(configure):
    server = configure(MAX_IN_FLIGHT=3)
    count = CHUNK_MESSAGES * 2 + 10

    def numbers():
        for number in range(count):
            yield number
            if number % 50 == 0:
                wait_until(lambda count=number + 1: arrived(server) == count)

    assert publish_many(numbers(), "orders") == count
    assert bodies(server) == list(range(count))


def test_slow_source_hears_of_an_outage_with_the_next_item(away):
    """Not when a chunk is full, which may be never."""
    failing = threading.Event()

    def numbers():
        yield from range(3)
        connection = brokers["default"]
        wait_until(lambda: connection._courier is not None and connection._courier._window.count == 3)
        wait_until(lambda: connection._courier._window.count == 0)
        yield 3
        failing.set()
        yield 4

    with pytest.raises(BulkPublishError) as raised:
        publish_many(numbers(), "orders", timeout=1.0)

    assert list(raised.value.errors) == [0, 1, 2]
    assert "nothing from index 3 on was sent" in str(raised.value)
    assert not failing.is_set()


def test_ctrl_c_while_the_source_waits_is_raised_once_everything_is_confirmed(server, heard):
    def numbers():
        yield from range(50)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        publish_many(numbers(), "orders")

    assert bodies(server) == list(range(50))
    assert [kind for _, kind, _ in heard] == [message_published] * 50


def test_ctrl_c_while_confirms_are_awaited_is_raised_once_everything_is_confirmed(configure, heard):
    class Interrupting(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body == b"2":
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            return await call_next(command)

    server = configure(Interrupting)

    with pytest.raises(KeyboardInterrupt):
        publish_many(range(5), "orders")

    assert bodies(server) == list(range(5))
    assert [kind for _, kind, _ in heard] == [message_published] * 5


def test_ctrl_c_in_a_receiver_keeps_no_message_from_the_signals(server):
    heard = []

    def receive(sender, message, **arguments):
        heard.append(message.decode())
        if len(heard) == 2:
            raise KeyboardInterrupt

    message_published.connect(receive)
    try:
        with pytest.raises(KeyboardInterrupt):
            publish_many(range(CHUNK_MESSAGES + 3), "orders")
    finally:
        message_published.disconnect(receive)

    assert heard == list(range(CHUNK_MESSAGES + 3))


def test_second_ctrl_c_does_not_wait(mute):
    main_thread = threading.main_thread().ident

    def numbers():
        yield 0
        threading.Timer(0.3, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        publish_many(numbers(), "orders", timeout=60)

    assert time.monotonic() - started < 30


def test_too_many_errors_stop_it(server):
    read = 0

    def items():
        nonlocal read
        for read in range(1, 100_000):
            yield Message.encode(read, "nowhere")

    with pytest.raises(BulkPublishError, match="Publishing stopped: nothing from index") as raised:
        publish_many(items())

    assert MOST_ERRORS < len(raised.value.errors) <= MOST_ERRORS + CHUNK_MESSAGES * CHUNKS_UNDER_WAY
    assert read <= MOST_ERRORS + CHUNK_MESSAGES * (CHUNKS_UNDER_WAY + 1)


def test_too_many_invalid_items_stop_it(server):
    with pytest.raises(BulkPublishError, match="Publishing stopped") as raised:
        publish_many((float("nan") for _ in range(100_000)), "orders")

    assert MOST_ERRORS < len(raised.value.errors) <= MOST_ERRORS + 1


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_broker_that_is_away_stops_it_and_the_text_says_where(away, verb):
    read = 0

    def numbers():
        nonlocal read
        for number in range(100_000):
            read = number
            yield number

    with pytest.raises(BulkPublishError) as raised:
        run(verb, numbers(), "orders", timeout=0.3)

    errors = raised.value.errors
    assert f"nothing from index {len(errors)} on was sent" in str(raised.value)
    assert all(isinstance(error, BrokerUnavailable) for error in errors.values())
    assert raised.value.maybe_sent is False
    assert raised.value.confirmed == 0
    assert read <= CHUNK_MESSAGES * (CHUNKS_UNDER_WAY + 1)


def test_slow_progress_is_progress(configure):
    """The timeout is the longest time without progress: of the whole bulk, not of each part of it."""

    class Slow(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            await asyncio.sleep(0.004)
            return await call_next(command)

    server = configure(Slow, MAX_IN_FLIGHT=1)
    count = CHUNK_MESSAGES * 2 + 10

    assert publish_many(range(count), "orders", timeout=0.5) == count
    assert bodies(server) == list(range(count))


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_bulk_that_comes_too_late_takes_no_room_in_flight(configure, verb):
    server = configure(MAX_IN_FLIGHT=10)
    publish("connects", "orders")

    with pytest.raises(BulkPublishError):
        run(verb, range(10), "orders", timeout=1e-9)
    publish("next", "orders")

    assert bodies(server)[-1] == "next"


def test_publish_many_is_told_that_the_process_is_ending(run_script):
    """At exit the loop thread is gone: each verb says so with an error of ours."""
    done = run_script("""
        import atexit, django
        django.setup()
        from faststream_django import publish, publish_many, publish_on_commit
        from faststream_django.exceptions import BrokerUnavailable, BulkPublishError, MessageUnroutable

        def late():
            for verb, expected in ((publish, BrokerUnavailable), (publish_many, BulkPublishError)):
                try:
                    verb(["x"], "orders")
                except expected as error:
                    print(verb.__name__, "shutting down" in str(error))
            publish_on_commit("x", "orders")
            print("publish_on_commit logged it")

        atexit.register(late)
        try:
            publish("x", "orders")
        except MessageUnroutable:
            pass
    """)

    assert done.stdout.splitlines() == [
        "publish True",
        "publish_many True",
        "publish_on_commit logged it",
    ], done.stderr


def test_first_publish_of_a_process_knows_that_nothing_was_sent(run_script, unreachable_port):
    """FastStream is imported meanwhile, which takes longer than this timeout."""
    done = run_script(
        """
        import django
        django.setup()
        from faststream_django import publish
        from faststream_django.exceptions import BrokerUnavailable

        try:
            publish("x", "orders", timeout=0.05)
        except BrokerUnavailable as error:
            print(error.maybe_sent)
        """,
        env={"TEST_FASTSTREAM_URL": f"amqp://guest:guest@127.0.0.1:{unreachable_port}/"},
    )

    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_one_id_for_all_messages_is_refused(server, verb):
    with pytest.raises(TypeError, match="the same message_id"):
        run(verb, ["1", "2"], "orders", message_id="m")

    assert bodies(server) == []


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_errors_of_a_bulk_have_their_messages(server, verb):
    messages = [Message.encode("1", "orders"), Message.encode("2", "nowhere"), float("nan")]

    with pytest.raises(BulkPublishError) as raised:
        run(verb, messages, "orders")

    assert raised.value.errors[1].message is messages[1]
    assert raised.value.errors[2].message is None
    assert raised.value.stopped_at is None
    assert raised.value.message is None


@pytest.mark.parametrize("verb", [publish, apublish])
def test_error_has_its_message_which_can_be_published_again(server, verb):
    with pytest.raises(MessageUnroutable) as raised:
        call(verb, "x", "later")
    server.declare_queue("later")
    again = publish(raised.value.message)

    assert again == raised.value.message_id
    assert bodies(server, "later") == ["x"]


def test_error_of_a_bulk_that_stops_says_where(away):
    with pytest.raises(BulkPublishError) as raised:
        publish_many(iter(range(100_000)), "orders", timeout=0.3)

    assert raised.value.stopped_at == len(raised.value.errors)


def test_error_that_a_middleware_raises_for_several_messages_is_copied(configure):
    shared = MessageRejected("the middleware's own")

    class Sharing(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            raise shared

    configure(Sharing)

    with pytest.raises(BulkPublishError) as raised:
        publish_many(["1", "2"], "orders")

    errors = raised.value.errors
    assert [error.message.body for error in errors.values()] == [b"1", b"2"]
    assert {type(error) for error in errors.values()} == {MessageRejected}


# What is in flight


def test_too_many_in_flight_is_refused_at_once(configure):
    entered, leave = threading.Semaphore(0), threading.Event()

    class Holding(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body.startswith(b"held"):
                entered.release()
                await asyncio.to_thread(leave.wait, 10)
            return await call_next(command)

    server = configure(Holding, MAX_IN_FLIGHT=2)
    threads = [threading.Thread(target=publish, args=(f"held {n}", "orders")) for n in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert entered.acquire(timeout=10)

    with pytest.raises(TooManyInFlight, match="MAX_IN_FLIGHT") as raised:
        publish("one more", "orders")
    leave.set()
    for thread in threads:
        thread.join()
    publish("next", "orders")

    assert raised.value.maybe_sent is False
    assert isinstance(raised.value, BrokerUnavailable)
    assert sorted(bodies(server)) == ["held 0", "held 1", "next"]


def test_place_in_flight_is_free_again_after_an_error(configure):
    server = configure(MAX_IN_FLIGHT=1)

    for _ in range(3):
        with pytest.raises(MessageUnroutable):
            publish("x", "nowhere")
    publish("x", "orders")

    assert bodies(server) == ["x"]


def test_bulk_larger_than_the_window_waits_for_room(configure):
    server = configure(MAX_IN_FLIGHT=2)

    assert publish_many(range(20), "orders") == 20
    assert bodies(server) == list(range(20))


# Signals and logs


@pytest.mark.parametrize("verb", [publish, publish_many])
def test_confirmed_message_is_announced_in_the_thread_of_the_caller(server, heard, verb):
    call(verb, "x", "orders")

    [(sender, signal, arguments)] = heard
    assert sender is Message
    assert signal is message_published
    assert arguments["message"].decode() == "x"
    assert arguments["broker"] == "default"
    assert arguments["thread"] is threading.current_thread()
    assert arguments.keys() == {"message", "broker", "thread"}


def test_failed_message_is_announced_with_its_error(server, heard):
    with pytest.raises(MessageUnroutable) as raised:
        publish("x", "nowhere")

    [(sender, signal, arguments)] = heard
    assert sender is Message
    assert signal is message_failed
    assert arguments["error"] is raised.value
    assert arguments["thread"] is threading.current_thread()


@pytest.mark.parametrize("verb", [apublish, apublish_many])
def test_async_verbs_announce_too(server, heard, verb):
    call(verb, "x", "orders")
    with pytest.raises(PublishError):
        call(verb, "x", "nowhere")

    assert [signal for _, signal, _ in heard] == [message_published, message_failed]


def test_async_receivers_are_awaited(server):
    received = []

    async def receive(sender, message, **arguments):
        received.append(message.decode())

    message_published.connect(receive)
    asyncio.run(apublish("async", "orders"))
    publish("sync", "orders")
    message_published.disconnect(receive)

    assert received == ["async", "sync"]


@pytest.mark.parametrize("verb", [publish, publish_many, apublish, apublish_many])
def test_receiver_that_raises_changes_nothing(server, verb, caplog):
    def receive(sender, **arguments):
        raise LookupError("the receiver's own")

    message_published.connect(receive)
    message_failed.connect(receive)
    result = call(verb, Message.encode("x", "orders", message_id="given"))
    with pytest.raises(PublishError):
        call(verb, "x", "nowhere")
    message_published.disconnect(receive)
    message_failed.disconnect(receive)

    assert result in ("given", 1)
    assert bodies(server) == ["x"]


def test_each_message_is_logged_at_debug_without_its_body_and_headers(server, caplog):
    caplog.set_level(logging.DEBUG, "faststream_django.publish")

    message_id = publish({"card": "4111"}, "orders", headers={"token": "secret"})

    [record] = caplog.records
    text = record.getMessage()
    assert record.levelno == logging.DEBUG
    assert record.name == "faststream_django.publish"
    assert message_id in text
    assert "routing_key='orders'" in text
    assert "broker=default" in text
    assert "4111" not in text
    assert "secret" not in text


# Settings


def test_settings_take_effect_at_once(settings):
    first, second = (f"memory://{uuid.uuid4().hex}" for _ in range(2))

    for url in (first, second, first):
        settings.FASTSTREAM = {"default": {"URL": url, "QUEUES": ["orders"]}}
        publish(url, "orders")
    brokers.stop()

    assert bodies(MemoryServer.get(first)) == [first, first]
    assert bodies(MemoryServer.get(second)) == [second]


def test_timeout_of_the_broker_is_the_default(configure):
    class Hanging(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body == b"held":
                await asyncio.Event().wait()
            return await call_next(command)

    configure(Hanging, TIMEOUT=0.1)
    publish("connects", "orders", timeout=5)

    with pytest.raises(PublishTimeout, match=r"0\.1 s") as raised:
        publish("held", "orders")

    assert raised.value.maybe_sent is False


def test_body_over_the_limit_is_refused(configure):
    server = configure(MAX_MESSAGE_BYTES=10)

    with pytest.raises(InvalidMessage, match="MAX_MESSAGE_BYTES"):
        publish("x" * 11, "orders")
    publish("x" * 10, "orders")

    assert bodies(server) == ["x" * 10]


# FastStream's middlewares


class Stamping(BaseMiddleware):
    async def publish_scope(self, call_next, command):
        command.headers["stamp"] = str(command.body)
        return await call_next(command)


@pytest.mark.django_db(transaction=True)  # a TestCase's transaction would keep back what is on commit
def test_middlewares_see_every_message_of_every_verb_and_may_add_headers(configure):
    server = configure(Stamping)

    publish("1", "orders")
    publish_many(["2", Message.encode("3", "orders")], "orders")
    publish_on_commit("4", "orders")
    asyncio.run(apublish("5", "orders", headers={"own": "kept"}))
    asyncio.run(apublish_many(["6"], "orders"))

    stored = server.drain("orders")
    assert [message.headers["stamp"] for message in stored] == [f"b'{n}'" for n in range(1, 7)]
    assert stored[4].headers["own"] == "kept"


def test_headers_of_a_middleware_arrive_on_rabbitmq(settings, rabbitmq, rabbit_queue):
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url(), "OPTIONS": {"middlewares": [Stamping]}}}

    publish("x", rabbit_queue)

    [stored] = rabbitmq.drain(rabbit_queue)
    assert stored.headers == {"stamp": "b'x'"}
    assert stored.properties.content_type == "text/plain"


def test_middleware_does_not_change_the_message_of_the_caller(configure):
    configure(Stamping)
    message = Message.encode("x", "orders", headers={"own": "kept"})

    publish(message)

    assert message.headers == {"own": "kept"}


@pytest.mark.parametrize("verb", [publish, publish_many, apublish, apublish_many])
def test_middlewares_see_the_context_of_the_caller(configure, verb):
    request_id = ContextVar("request_id")
    seen = []

    class Reading(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            seen.append(request_id.get(None))
            return await call_next(command)

    configure(Reading)

    for number in range(2):
        token = request_id.set(number)
        call(verb, "x", "orders")
        request_id.reset(token)
    call(verb, "x", "orders")

    assert seen == [0, 1, None]


class Dawdling(BaseMiddleware):
    """Takes longer for the earlier messages; hangs for one that says so."""

    async def publish_scope(self, call_next, command):
        body = command.body.decode()
        await asyncio.sleep(60 if body == "hang" else 0.02 * (9 - int(body)))
        return await call_next(command)


async def gather_from_one_task(bodies):
    await asyncio.gather(*(apublish(body, "orders") for body in bodies))


async def group_from_one_task(bodies):
    async with asyncio.TaskGroup() as group:
        for body in bodies:
            group.create_task(apublish(body, "orders"))


@pytest.mark.parametrize(
    "send",
    [
        lambda numbers: publish_many(numbers, "orders"),
        lambda numbers: asyncio.run(apublish_many(numbers, "orders")),
        lambda numbers: asyncio.run(gather_from_one_task(numbers)),
        lambda numbers: asyncio.run(group_from_one_task(numbers)),
    ],
    ids=["publish_many", "apublish_many", "gather", "TaskGroup"],
)
def test_messages_keep_the_order_of_the_calls_although_a_middleware_awaits(configure, send):
    server = configure(Dawdling)

    send(range(10))

    assert bodies(server) == list(range(10))


@pytest.mark.django_db(transaction=True)
def test_messages_of_a_transaction_keep_their_order_although_a_middleware_awaits(configure):
    server = configure(Dawdling)

    with transaction.atomic():
        for number in range(10):
            publish_on_commit(number, "orders")

    assert bodies(server) == list(range(10))


def test_slow_middleware_of_one_caller_holds_up_no_other(configure):
    """Two tasks are two callers, as two requests are; so are two threads."""
    server = configure(Dawdling)

    async def main():
        hanging = asyncio.create_task(apublish_in_a_task_of_its_own("hang"))
        await asyncio.sleep(0)
        await asyncio.create_task(apublish_in_a_task_of_its_own(9))
        await asyncio.to_thread(publish, 9, "orders")
        return not hanging.done() and hanging.cancel()

    async def apublish_in_a_task_of_its_own(body):
        await apublish(body, "orders", timeout=50)

    started = time.monotonic()
    assert asyncio.run(main())
    assert time.monotonic() - started < 30
    assert bodies(server) == [9, 9]


def test_messages_behind_one_that_hangs_leave_once_its_time_is_over(configure):
    server = configure(Dawdling)

    async def main():
        return await asyncio.gather(
            apublish("hang", "orders", timeout=0.5),
            apublish(8, "orders", timeout=30),
            apublish(9, "orders", timeout=30),
            return_exceptions=True,
        )

    hung, *others = asyncio.run(main())

    assert type(hung) is PublishTimeout
    assert hung.maybe_sent is False
    assert all(isinstance(other, str) for other in others)
    assert bodies(server) == [8, 9]


def test_deadline_holds_behind_one_that_hangs(configure):
    server = configure(Dawdling)
    publish(9, "orders")

    async def until_the_second_is_told():
        hanging = asyncio.create_task(apublish("hang", "orders", timeout=50))
        waiting = asyncio.create_task(apublish(9, "orders", timeout=0.5))
        with pytest.raises(PublishTimeout) as raised:
            await waiting
        hanging.cancel()
        return raised.value

    error = asyncio.run(until_the_second_is_told())

    assert error.maybe_sent is False
    assert bodies(server) == [9]


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "publishes twice"])
def test_middleware_that_fails_or_publishes_twice_lets_those_behind_it_pass(configure, fails):
    class Odd(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body != b"0":
                return await call_next(command)
            if fails:
                raise LookupError("the middleware's own")
            await call_next(command)
            return await call_next(command)

    server = configure(Odd)

    with suppress(BulkPublishError):
        publish_many(range(4), "orders")

    assert sorted(bodies(server)) == ([1, 2, 3] if fails else [0, 0, 1, 2, 3])


def test_middleware_that_ignores_its_end_does_not_send_what_was_called_unsent(configure):
    class Stubborn(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60 if command.body == b"stubborn" else 0)
            return await call_next(command)

    server = configure(Stubborn)
    publish("first", "orders")

    with pytest.raises(PublishTimeout) as raised:
        publish("stubborn", "orders", timeout=0.3)
    publish("last", "orders")

    assert raised.value.maybe_sent is False
    assert bodies(server) == ["first", "last"]


class Refusing(BaseMiddleware):
    error = LookupError("the middleware's own")

    async def publish_scope(self, call_next, command):
        if command.body == b"bad":
            raise self.error
        return await call_next(command)


@pytest.mark.parametrize("verb", [publish, apublish])
def test_error_of_a_middleware_reaches_the_caller_unchanged(configure, verb):
    server = configure(Refusing)

    with pytest.raises(LookupError) as raised:
        call(verb, "bad", "orders")
    publish("fine", "orders")

    assert raised.value is Refusing.error
    assert bodies(server) == ["fine"]


def test_timeout_error_of_a_middleware_is_its_own(configure):
    class Late(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            raise TimeoutError("the middleware's own")

    configure(Late)

    with pytest.raises(TimeoutError, match="the middleware's own"):
        publish("x", "orders")


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_error_of_a_middleware_is_that_of_one_message_among_many(configure, verb):
    server = configure(Refusing)

    with pytest.raises(BulkPublishError) as raised:
        run(verb, ["1", "bad", "3"], "orders")

    [(index, error)] = raised.value.errors.items()
    assert index == 1
    assert error.__cause__ is Refusing.error
    assert "the middleware's own" in str(error)
    assert error.maybe_sent is False
    assert bodies(server) == ["1", "3"]


def test_message_that_a_middleware_keeps_is_an_error(configure, heard):
    class Swallowing(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            return None

    server = configure(Swallowing)

    with pytest.raises(PublishError, match="without passing it on") as raised:
        publish("x", "orders")

    assert raised.value.maybe_sent is False
    assert [signal for _, signal, _ in heard] == [message_failed]
    assert bodies(server) == []


class Exiting(BaseMiddleware):
    async def publish_scope(self, call_next, command):
        if command.body == b"exit":
            raise SystemExit(3)
        return await call_next(command)


@pytest.mark.parametrize("verb", [publish, apublish])
def test_exit_in_a_middleware_does_not_end_the_loop_thread(configure, verb):
    server = configure(Exiting)

    with pytest.raises(SystemExit):
        call(verb, "exit", "orders")
    publish("fine", "orders")

    assert bodies(server) == ["fine"]


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_exit_in_a_middleware_is_the_error_of_one_message_among_many(configure, heard, verb):
    """Every message of a bulk has an outcome, so that one cannot end the call for the others."""
    server = configure(Exiting)

    with pytest.raises(BulkPublishError) as raised:
        run(verb, ["1", "exit", "3"], "orders")

    assert isinstance(raised.value.errors[1].__cause__, SystemExit)
    assert raised.value.confirmed == 2
    assert len(heard) == 3
    assert bodies(server) == ["1", "3"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda command: setattr(command, "body", float("nan")), "NaN"),
        (lambda command: command.headers.update({"bad": object()}), "bad"),
        (lambda command: setattr(command, "destination", "x" * 300), "routing_key|255"),
    ],
    ids=["body", "headers", "routing key"],
)
def test_invalid_change_of_a_middleware_is_refused_and_hurts_nobody(configure, heard, change, text):
    class Changing(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body == b"change":
                change(command)
            return await call_next(command)

    server = configure(Changing)

    with pytest.raises(InvalidMessage, match=text) as raised:
        publish("change", "orders", message_id="changed")
    publish("fine", "orders")

    assert raised.value.message_id == "changed"
    assert raised.value.broker == "default"
    assert [signal for _, signal, _ in heard] == [message_failed, message_published]
    assert bodies(server) == ["fine"]


def test_user_id_of_a_middleware_is_refused(configure):
    class Naming(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            command.message_options["user_id"] = "somebody"
            return await call_next(command)

    configure(Naming)

    with pytest.raises(InvalidMessage, match="user_id"):
        publish("x", "orders")


def test_properties_survive_the_middlewares(configure):
    server = configure(Stamping)
    options = {
        "correlation_id": "c",
        "reply_to": "answers",
        "priority": 3,
        "message_type": "t",
        "expiration": 60,
        "persist": False,
        "content_encoding": "gzip",
        "content_type": "application/x",
    }

    publish(b"x", "orders", message_id="m", **options)

    [stored] = server.drain("orders")
    assert {name: getattr(stored, name) for name in options} == options
    assert stored.message_id == "m"


@pytest.mark.parametrize("one", ["abc", b"abc", {"id": 1}, Message.encode(1, "orders")])
def test_publish_many_refuses_one_message(one):
    with pytest.raises(TypeError, match="takes an iterable of messages, not one"):
        publish_many(one, "orders")
