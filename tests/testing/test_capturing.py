"""The test kit: capture_messages() here, the fixture in a pytest of its own."""

import asyncio
import threading

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.test import TestCase

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
from faststream_django.exceptions import (
    BrokerDoesNotExist,
    BrokerUnavailable,
    BulkPublishError,
    InvalidMessage,
)
from faststream_django.signals import message_published
from faststream_django.testing import capture_messages


def bodies(messages):
    return [captured.body for captured in messages]


# What is captured


def test_a_message_to_a_queue_is_captured_as_it_would_arrive(messages):
    message_id = publish({"id": 1}, "orders", headers={"tenant": "a"}, correlation_id="c-1")

    (captured,) = messages
    assert captured.body == {"id": 1}
    assert captured.queue == "orders"
    assert captured.exchange == ""
    assert captured.routing_key == "orders"
    assert captured.headers == {"tenant": "a"}
    assert captured.message_id == message_id
    assert captured.correlation_id == "c-1"
    assert captured.broker == "default"
    assert isinstance(captured.message, Message)


def test_a_message_to_an_exchange_has_no_queue(messages):
    publish("x", exchange="events", routing_key="order.created", broker="other")

    assert (messages[0].queue, messages[0].exchange) == ("", "events")
    assert messages[0].routing_key == "order.created"
    assert messages[0].broker == "other"


def test_the_captured_messages_are_a_sequence(messages):
    for number in range(3):
        publish(number, "orders")

    assert len(messages) == 3
    assert bodies(messages) == [0, 1, 2]
    assert messages[-1].body == 2
    assert bodies(messages[:2]) == [0, 1]


def test_publish_many_is_captured_in_order(messages):
    assert publish_many(range(1000), "orders") == 1000

    assert bodies(messages) == list(range(1000))


def test_what_a_generator_gave_before_it_raised_is_captured(messages):
    def numbers():
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        publish_many(numbers(), "orders")

    assert bodies(messages) == [1]


def test_nothing_is_captured_before_and_after():
    with capture_messages() as messages:
        pass
    with capture_messages():
        publish("x", "orders")

    assert not messages


def test_the_messages_stay_when_the_capture_ends():
    with capture_messages() as messages:
        publish("x", "orders")

    assert bodies(messages) == ["x"]


def test_clear_forgets_what_was_captured(messages):
    publish(1, "orders")
    messages.clear()
    publish(2, "orders")

    assert bodies(messages) == [2]


def test_clear_works_after_the_end():
    with capture_messages() as messages:
        publish(1, "orders")

    messages.clear()

    assert not messages


def test_starting_the_brokers_starts_nothing(messages):
    brokers.start()

    assert not messages


@pytest.mark.parametrize(
    ("payload", "options", "error"),
    [
        (object(), {}, InvalidMessage),
        ("x", {"headers": {1: 2}}, InvalidMessage),
        ("longer than 10 bytes", {"broker": "other"}, InvalidMessage),
        ("x", {"broker": "othr"}, BrokerDoesNotExist),
        ("x", {"using": "default"}, TypeError),
    ],
)
def test_what_is_wrong_raises_as_ever(messages, payload, options, error):
    with pytest.raises(error):
        publish(payload, "orders", **options)

    assert not messages


def test_bad_items_of_publish_many_are_reported_as_ever(messages):
    with pytest.raises(BulkPublishError) as caught:
        publish_many([1, object(), 3], "orders")

    assert list(caught.value.errors) == [1]
    assert bodies(messages) == [1, 3]


def test_the_signals_are_sent(messages):
    published = []

    def receive(message, broker, **kwargs):
        published.append((message.decode(), broker))

    message_published.connect(receive)
    try:
        publish(1, "orders")
        publish_many([2], "orders", broker="other")
    finally:
        message_published.disconnect(receive)

    assert published == [(1, "default"), (2, "other")]


def test_nested_captures_all_see_the_messages(messages):
    publish(1, "orders")
    with capture_messages() as inner:
        publish(2, "orders")
    publish(3, "orders")

    assert bodies(inner) == [2]
    assert bodies(messages) == [1, 2, 3]


def test_messages_of_other_threads_are_captured(messages):
    threads = [threading.Thread(target=publish, args=(number, "orders")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(bodies(messages)) == list(range(8))


def test_an_error_in_the_block_ends_the_capture():
    with pytest.raises(LookupError), capture_messages() as messages:
        raise LookupError
    with capture_messages():
        publish("x", "orders")

    assert not messages


# Async code


def test_async_verbs_are_captured():
    async def main():
        async with capture_messages() as messages:
            await apublish(1, "orders")
            await apublish_many(iter([2, 3]), "orders")
        return messages

    assert bodies(asyncio.run(main())) == [1, 2, 3]


def test_what_an_async_generator_gave_before_it_raised_is_captured():
    async def numbers():
        for number in range(300):
            yield number
        raise LookupError

    async def main():
        async with capture_messages() as messages:
            with pytest.raises(LookupError):
                await apublish_many(numbers(), "orders")
        return messages

    assert bodies(asyncio.run(main())) == list(range(300))


def test_apublish_many_stops_as_ever_when_the_broker_is_away():
    async def main():
        async with capture_messages(fail_with=BrokerUnavailable):
            await apublish_many(iter(range(10_000)), "orders")

    with pytest.raises(BulkPublishError, match="Publishing stopped"):
        asyncio.run(main())


def test_a_plain_with_is_refused_in_async_code():
    async def main():
        with capture_messages():
            pass

    with pytest.raises(SynchronousOnlyOperation, match="async with capture_messages"):
        asyncio.run(main())


# As a decorator


def test_a_decorated_test_gets_the_messages_if_it_wants_them():
    @capture_messages()
    def test(body, *, messages):
        publish(body, "orders")
        return bodies(messages)

    @capture_messages(fail_with=BrokerUnavailable)
    def test_a_failure():
        with pytest.raises(BrokerUnavailable):
            publish(1, "orders")
        return "done"

    assert [test(1), test(body=2)] == [[1], [2]]
    assert test_a_failure() == "done"


def test_a_decorated_test_may_be_async():
    @capture_messages()
    async def test(messages):
        await apublish(1, "orders")
        return bodies(messages)

    assert asyncio.run(test()) == [1]


@capture_messages()
def test_pytest_does_not_take_the_messages_for_a_fixture(counting_port, messages):
    publish(1, "orders")

    assert bodies(messages) == [1]
    assert counting_port.count == 0


@capture_messages()
class DecoratedTestCase(TestCase):
    def setUp(self):
        publish("set up", "orders")

    def test_each_test_has_messages_of_its_own(self):
        publish_on_commit(1, "orders")

        assert bodies(self.messages) == ["set up", 1]

    async def test_an_async_test_too(self):
        await apublish_on_commit(2, "orders")

        assert bodies(self.messages) == ["set up", 2]


class DecoratedMethods(TestCase):
    @capture_messages()
    def test_sync(self, messages):
        publish_on_commit(1, "orders")
        assert bodies(messages) == [1]

    @capture_messages()
    async def test_async(self, messages):
        await apublish_on_commit(1, "orders")
        assert bodies(messages) == [1]


# In setUpTestData, whose attributes every test gets as copies


class CapturedForTheClass(TestCase):
    @classmethod
    def setUpTestData(cls):
        with capture_messages() as cls.ended:
            publish_on_commit({"id": 1}, "orders", headers={"tenant": "a"})
        cls.first = cls.ended[0]
        capture = capture_messages()
        cls.open = capture.__enter__()
        cls.addClassCleanup(capture.__exit__)

    def test_what_was_captured_is_there(self):
        assert bodies(self.ended) == [{"id": 1}]
        assert self.first.headers == {"tenant": "a"}
        self.ended.clear()

    def test_what_another_test_cleared_is_there(self):
        assert bodies(self.ended) == [{"id": 1}]
        self.ended.clear()

    def test_an_open_capture_sees_the_messages_of_the_test(self):
        publish(2, "orders")

        assert bodies(self.open)[-1:] == [2]
