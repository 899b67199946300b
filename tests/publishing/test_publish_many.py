import asyncio
import signal
import threading
import time

import pytest
from faststream import BaseMiddleware

from faststream_django import Message, apublish, apublish_many, brokers, publish, publish_many
from faststream_django.backends.memory.refusals import ServerRefused
from faststream_django.connection.bulk import CHUNK_MESSAGES, CHUNKS_UNDER_WAY, MOST_ERRORS
from faststream_django.exceptions import (
    BrokerUnavailable,
    BulkPublishError,
    InvalidMessage,
    MessageRejected,
    MessageUnroutable,
)
from faststream_django.signals import message_published
from tests.integration.test_rabbitmq import wait_until
from tests.publishing.verbs import bodies, call, run


@pytest.fixture
def away(settings, unreachable_port):
    settings.FASTSTREAM = {"default": {"URL": f"amqp://guest:guest@127.0.0.1:{unreachable_port}/"}}
    yield
    brokers.stop(0.1)


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
