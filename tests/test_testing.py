"""The test kit: capture_messages() here, the fixture in a pytest of its own."""

import asyncio
import textwrap
import threading
from contextlib import suppress
from pathlib import Path
from unittest.mock import ANY

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.test import Client, TestCase, TransactionTestCase
from faststream.rabbit import RabbitExchange, RabbitQueue

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
from faststream_django.connection.bulk import CHUNK_MESSAGES
from faststream_django.exceptions import (
    BrokerDoesNotExist,
    BrokerUnavailable,
    BulkPublishError,
    ConnectionLost,
    InvalidMessage,
    MessageRejected,
    PublishError,
)
from faststream_django.signals import message_failed, message_published
from faststream_django.testing import CapturedMessage, capture_messages

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _no_broker(settings, counting_port):
    """Whatever were sent would be sent to a port that counts."""
    settings.FASTSTREAM = {
        "default": {"URL": counting_port.url},
        "other": {"URL": counting_port.url, "MAX_MESSAGE_BYTES": 10},
    }
    yield
    assert counting_port.count == 0


@pytest.fixture
def messages():
    with capture_messages() as messages:
        yield messages


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


# After the commit


class OnCommitInTestCase(TestCase):
    """Nothing is ever committed here, and no test has to know."""

    databases = ("default", "other")

    def test_a_message_counts_at_once_where_production_has_no_transaction(self):
        with capture_messages() as messages:
            publish_on_commit(1, "orders", headers={"a": "b"})

            assert bodies(messages) == [1]
            assert messages[0].headers == {"a": "b"}
        assert bodies(messages) == [1]

    def test_a_message_counts_when_its_block_ends(self):
        with capture_messages() as messages:
            with transaction.atomic():
                publish_on_commit(1, "orders")
                with transaction.atomic():
                    publish_on_commit(2, "orders")
                assert not messages

            assert bodies(messages) == [1, 2]

    def test_a_block_without_a_savepoint_is_a_block_too(self):
        with capture_messages() as messages:
            with transaction.atomic(savepoint=False):
                publish_on_commit(1, "orders")
                assert not messages

            assert bodies(messages) == [1]

    def test_a_durable_block_is_a_block_too(self):
        with capture_messages() as messages:
            with transaction.atomic(durable=True):
                publish_on_commit(1, "orders")
                assert not messages

            assert bodies(messages) == [1]

    def test_a_rolled_back_block_drops_exactly_its_messages(self):
        with capture_messages() as messages:
            publish_on_commit(1, "orders")
            with transaction.atomic():
                publish_on_commit(2, "orders")
                transaction.set_rollback(True)
            publish_on_commit(3, "orders")

        assert bodies(messages) == [1, 3]

    def test_an_open_block_elsewhere_does_not_hold_back_what_is_published(self):
        with capture_messages() as messages:
            publish_on_commit(1, "orders")
            with transaction.atomic():
                publish_on_commit(2, "orders")
                assert bodies(messages) == [1]

    def test_what_waited_before_the_capture_is_not_captured(self):
        publish_on_commit(1, "orders")
        with capture_messages() as messages:
            publish_on_commit(2, "orders")

        assert bodies(messages) == [2]

    def test_a_capture_inside_a_block_sees_the_messages_of_the_block(self):
        with transaction.atomic(), capture_messages() as messages:
            publish_on_commit(1, "orders")

            assert bodies(messages) == [1]

    def test_messages_of_another_database_are_captured(self):
        with capture_messages() as messages, transaction.atomic(using="other"):
            publish_on_commit(1, "orders", using="other")
            publish_on_commit(2, "orders")
            assert bodies(messages) == [2]

        assert bodies(messages) == [2, 1]

    def test_the_order_is_that_of_production(self):
        with capture_messages() as messages:
            publish_on_commit(1, "orders")
            publish(2, "orders")
            with transaction.atomic():
                publish_on_commit(4, "orders")
                publish(3, "orders")
            publish(5, "orders")

        assert bodies(messages) == [1, 2, 3, 4, 5]

    def test_executed_callbacks_count_once(self):
        with capture_messages() as messages:
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                publish_on_commit(1, "orders")
                publish_on_commit(2, "orders")
                assert bodies(messages) == [1, 2]

            assert len(callbacks) == 2
            assert bodies(messages) == [1, 2]

    def test_nested_captures_all_see_the_messages(self):
        with capture_messages() as outer:
            with capture_messages() as inner:
                publish_on_commit(1, "orders")
            publish_on_commit(2, "orders")

        assert bodies(inner) == [1]
        assert bodies(outer) == [1, 2]

    def test_clear_forgets_what_counts_and_keeps_what_waits(self):
        with capture_messages() as messages:
            publish_on_commit(1, "orders")
            with transaction.atomic():
                publish_on_commit(2, "orders")
                messages.clear()

        assert bodies(messages) == [2]

    def test_a_view_in_a_transaction(self):
        with capture_messages() as messages:
            response = self.client.get("/order/orders/7/")

        assert messages.assert_published("orders", body={"number": 7}, count=1)
        assert messages[0].message_id == response.json()["message_id"]

    def test_a_failed_view_with_atomic_requests(self):
        client = Client(raise_request_exception=False)
        with capture_messages() as messages:
            with pytest.raises(RuntimeError), transaction.atomic():
                self.client.get("/order/orders/7/?fail")
            assert client.get("/publish/orders/").status_code == 200

        assert bodies(messages) == [{"path": "/publish/orders/"}]

    def test_a_failure_of_a_block_that_is_open_names_what_waits(self):
        with capture_messages() as messages, transaction.atomic():
            publish_on_commit({"id": 1}, "orders")

            with pytest.raises(AssertionError) as caught:
                messages.assert_published("orders")

        assert "Nothing was published.\n1 more wait for an atomic block" in str(caught.value)
        assert "  - queue 'orders': {'id': 1}" in str(caught.value)

    def test_with_fail_with_nothing_counts(self):
        with capture_messages(fail_with=BrokerUnavailable) as messages:
            publish_on_commit(1, "orders")

        assert not messages

    def test_a_failed_delivery_after_the_commit_is_logged(self):
        with (
            capture_messages(fail_with=ConnectionLost("lost")) as messages,
            self.assertLogs("faststream_django.publish", "ERROR") as logs,
            self.captureOnCommitCallbacks(execute=True),
        ):
            publish_on_commit(1, "orders")

        assert "maybe_sent=True" in logs.output[0]
        assert not messages

    def test_a_failed_delivery_raises_where_it_is_asked_to(self):
        with (
            capture_messages(fail_with=BrokerUnavailable),
            pytest.raises(BrokerUnavailable),
            self.captureOnCommitCallbacks(execute=True),
        ):
            publish_on_commit(1, "orders", robust=False)

    async def test_async_code_sees_the_transaction_of_the_test(self):
        async with capture_messages() as messages:
            await apublish_on_commit(1, "orders")
            await sync_to_async(publish_on_commit)(2, "orders")
            await apublish(3, "orders")

            assert bodies(messages) == [1, 2, 3]

    async def test_an_async_view(self):
        async with capture_messages() as messages:
            await self.async_client.get("/apublish/orders/")

        assert bodies(messages) == [{"path": "/apublish/orders/"}]

    def test_async_code_called_from_sync_code(self):
        async def main():
            await apublish_on_commit(1, "orders")

        with capture_messages() as messages:
            async_to_sync(main)()

            assert bodies(messages) == [1]


class OnCommitInTransactionTestCase(TransactionTestCase):
    """Real transactions."""

    def test_the_commit_publishes(self):
        with capture_messages() as messages:
            with transaction.atomic():
                publish_on_commit(1, "orders")
                publish_on_commit(2, "orders")
                assert not messages

            assert bodies(messages) == [1, 2]

    def test_a_rollback_publishes_nothing(self):
        with capture_messages() as messages, transaction.atomic():
            publish_on_commit(1, "orders")
            transaction.set_rollback(True)

        assert not messages

    def test_a_savepoint_that_ended_waits_for_the_commit(self):
        with capture_messages() as messages, transaction.atomic():
            with transaction.atomic():
                publish_on_commit(1, "orders")

            assert not messages

    def test_outside_a_transaction_it_is_published_at_once(self):
        with capture_messages() as messages:
            publish_on_commit(1, "orders")

            assert bodies(messages) == [1]

    def test_what_another_message_waited_for_before_the_capture_is_told_apart(self):
        """Both wait in one callback here, which a TestCase never does."""
        with transaction.atomic():
            publish_on_commit(1, "orders")
            with capture_messages() as messages:
                publish_on_commit(2, "orders")

                assert bodies(messages) == [2]
            transaction.set_rollback(True)


# Failures on purpose


def test_fail_with_a_class_makes_every_publish_fail():
    failed = []

    def receive(message, error, **kwargs):
        failed.append(error)

    message_failed.connect(receive)
    try:
        with (
            capture_messages(fail_with=BrokerUnavailable) as messages,
            pytest.raises(BrokerUnavailable) as caught,
        ):
            publish("x", "orders", message_id="m-1")
    finally:
        message_failed.disconnect(receive)

    assert (caught.value.message_id, caught.value.broker) == ("m-1", "default")
    assert "m-1 was not confirmed: capture_messages(fail_with=BrokerUnavailable)" in str(caught.value)
    assert failed == [caught.value]
    assert not messages


def test_fail_with_an_error_gives_each_caller_an_object_of_its_own():
    error = PublishError("The moon is full.", maybe_sent=True)
    caught = []

    with capture_messages(fail_with=error):
        for message_id in ("m-1", "m-2"):
            with pytest.raises(PublishError, match=r"The moon is full\.") as info:
                publish("x", "orders", message_id=message_id)
            caught.append(info.value)

    assert [each.message_id for each in caught] == ["m-1", "m-2"]
    assert all(each.maybe_sent for each in caught)
    assert error.message_id is None
    assert error.__traceback__ is None


def test_fail_with_makes_publish_many_stop_where_it_would():
    def numbers():
        yield from range(CHUNK_MESSAGES)
        yield CHUNK_MESSAGES
        pytest.fail("It was read on.")

    with capture_messages(fail_with=BrokerUnavailable), pytest.raises(BulkPublishError) as caught:
        publish_many(numbers(), "orders")

    assert len(caught.value.errors) == CHUNK_MESSAGES


@pytest.mark.parametrize("wrong", [LookupError, LookupError("x"), "x", BulkPublishError])
def test_fail_with_takes_what_a_message_can_fail_with(wrong):
    with pytest.raises(TypeError, match="such as BrokerUnavailable"):
        capture_messages(fail_with=wrong)


def test_the_innermost_capture_decides_about_failures(messages):
    with capture_messages(fail_with=BrokerUnavailable), pytest.raises(BrokerUnavailable):
        publish(1, "orders")
    publish(2, "orders")

    assert bodies(messages) == [2]


def test_fail_with_a_list_has_one_entry_for_each_publish(messages):
    with capture_messages(fail_with=[None, BrokerUnavailable, ConnectionLost("The cable is out.")]):
        publish(1, "orders")
        with pytest.raises(BrokerUnavailable):
            publish(2, "orders")
        with pytest.raises(ConnectionLost, match=r"The cable is out\."):
            publish(3, "orders")
        publish(4, "orders")

    assert bodies(messages) == [1, 4]


def test_fail_with_a_list_reaches_into_publish_many():
    with (
        capture_messages(fail_with=[None, MessageRejected]) as messages,
        pytest.raises(BulkPublishError) as caught,
    ):
        publish_many([1, 2, 3], "orders")

    assert {index: type(error) for index, error in caught.value.errors.items()} == {1: MessageRejected}
    assert bodies(messages) == [1, 3]


def test_fail_with_a_list_begins_anew_in_each_block():
    second_fails = capture_messages(fail_with=[None, BrokerUnavailable])

    for _ in range(2):
        with second_fails:
            publish(1, "orders")
            with pytest.raises(BrokerUnavailable):
                publish(2, "orders")


def test_fail_with_a_function_decides_by_the_message():
    def refuse_odd(message):
        return MessageRejected if message.decode() % 2 else None

    with capture_messages(fail_with=refuse_odd) as messages:
        for number in range(4):
            with suppress(MessageRejected):
                publish(number, "orders")

    assert bodies(messages) == [0, 2]


def test_fail_with_a_function_that_returns_nonsense_is_told_so():
    with capture_messages(fail_with=lambda message: "no"), pytest.raises(TypeError, match="fail_with is str"):
        publish(1, "orders")


@pytest.mark.parametrize("fail_on", ["other", ["other"], {"other"}])
def test_fail_on_limits_failures_to_brokers(fail_on):
    with capture_messages(fail_with=[BrokerUnavailable], fail_on=fail_on) as messages:
        publish(1, "orders")
        with pytest.raises(BrokerUnavailable):
            publish(2, "orders", broker="other")
        publish(3, "orders", broker="other")

    assert bodies(messages) == [1, 3]


def test_fail_on_names_brokers_that_exist():
    with (
        pytest.raises(BrokerDoesNotExist, match="othr"),
        capture_messages(fail_with=PublishError, fail_on="othr"),
    ):
        pass


def test_fail_on_needs_fail_with():
    with pytest.raises(TypeError, match="fail_with="):
        capture_messages(fail_on="other")


class FailuresInTestCase(TestCase):
    databases = ("default", "other")

    def test_a_message_that_may_fail_counts_when_it_is_sent(self):
        with capture_messages(fail_with=[None, BrokerUnavailable], fail_on="other") as messages:
            publish_on_commit(1, "orders")
            with self.captureOnCommitCallbacks(execute=True):
                publish_on_commit(2, "orders", broker="other")
                publish_on_commit(3, "orders", broker="other")
                assert bodies(messages) == [1]

        assert bodies(messages) == [1, 2]


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


# Questions


@pytest.fixture
def varied(messages):
    publish({"id": 1}, "orders", headers={"tenant": "a", "n": 1})
    publish({"id": 2}, "orders", broker="other")
    publish({"id": 3}, "order.created", "events")
    publish({"id": 4}, "orders", "events")
    return messages


@pytest.mark.parametrize(
    ("destination", "options", "expected"),
    [
        ((), {}, [1, 2, 3, 4]),
        (("orders",), {}, [1, 2]),
        (("orders",), {"broker": "other"}, [2]),
        (("orders", "events"), {}, [4]),
        ((), {"exchange": "events"}, [3, 4]),
        ((), {"routing_key": "orders"}, [1, 2, 4]),
        ((), {"exchange": "events", "routing_key": "order.created"}, [3]),
        ((), {"exchange": ""}, [1, 2]),
        ((RabbitQueue("orders"),), {}, [1, 2]),
        ((), {"exchange": RabbitExchange("events")}, [3, 4]),
        (("nothing",), {}, []),
    ],
)
def test_to_selects_by_destination(varied, destination, options, expected):
    assert [each.body["id"] for each in varied.to(*destination, **options)] == expected


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"count": 2},
        {"body": {"id": 2}, "count": 1},
        {"body": ANY},
        {"body": {"id": ANY}, "count": 2},
        {"headers": {"tenant": "a"}, "count": 1},
        {"body": {"id": 7}, "count": 0},
    ],
)
def test_assert_published_returns_what_it_found(varied, question):
    found = varied.assert_published("orders", **question)

    assert len(found) == question.get("count", 2)
    assert all(isinstance(each, CapturedMessage) for each in found)


@pytest.mark.parametrize(
    "question",
    [
        {"count": 1},
        {"count": 0},
        {"body": {"id": 3}},
        {"headers": {"tenant": "b"}},
        {"headers": {"absent": None}},
        {"broker": "nothing"},
    ],
)
def test_assert_published_fails(varied, question):
    with pytest.raises(AssertionError):
        varied.assert_published("orders", **question)


def test_a_body_may_be_asked_for_as_it_was_published(messages):
    from datetime import UTC, datetime
    from uuid import UUID

    payload = {"id": UUID(int=1), "at": datetime(2026, 1, 1, tzinfo=UTC)}
    publish(payload, "orders")

    assert messages.assert_published("orders", body=payload, count=1)
    assert messages.assert_published("orders", body=messages[0].body, count=1)


def test_a_body_that_is_not_what_its_content_type_says_can_be_asked_for(messages):
    publish(b"{", "orders", content_type="application/json")

    assert messages.assert_published("orders", body=b"{", count=1)
    assert "b'{'" in repr(messages)


def test_a_failed_assertion_lists_what_was_published(varied):
    with pytest.raises(AssertionError) as caught:
        varied.assert_published("order", body={"id": 1}, headers={"x": "y"}, count=2, broker="default")

    assert str(caught.value) == textwrap.dedent(
        """\
        Expected 2 to queue 'order' of broker 'default' with body {'id': 1} with headers {'x': 'y'}; found 0.
        Published were 4:
          1. queue 'orders': {'id': 1} {'n': 1, 'tenant': 'a'}
          2. queue 'orders': {'id': 2}
          3. exchange 'events' with routing key 'order.created': {'id': 3}
          4. exchange 'events' with routing key 'orders': {'id': 4}"""
    )


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, "any destination"),
        ({"exchange": ""}, "any queue"),
        ({"exchange": "events"}, "exchange 'events'"),
        ({"routing_key": "k"}, "any destination with routing key 'k'"),
    ],
)
def test_a_failed_assertion_names_what_was_expected(messages, question, expected):
    with pytest.raises(AssertionError) as caught:
        messages.assert_published(**question)

    assert str(caught.value) == f"Expected at least 1 to {expected}; found 0.\nNothing was published."


def test_the_repr_shows_the_messages_shortened(messages):
    publish({"text": "x" * 10_000}, "orders")

    assert repr(messages).startswith("<CapturedMessages [<CapturedMessage to queue 'orders': {'text': 'xxx")
    assert len(repr(messages)) < 300


# The fixture of the pytest plugin


@pytest.fixture
def project(pytester, monkeypatch):
    """A Django project with SQLite, and a pytest that loads what an environment would load."""
    pytester.makepyfile(
        project_settings="""
        SECRET_KEY = "only for tests"
        INSTALLED_APPS = ["faststream_django"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        FASTSTREAM = {"default": {"URL": "amqp://guest:guest@127.0.0.1:1/"}}
        USE_TZ = True
        """
    )
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "project_settings")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{pytester.path}")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source, *plugins):
        pytester.makepyfile(source)
        names = [f"-p{name}" for name in ("faststream_django.pytest_plugin", *plugins)]
        return pytester.runpytest_subprocess("-W", "error", "--strict-markers", *names, timeout=60)

    return run


def test_the_fixture_under_pytest_django(project):
    result = project(
        """
        import pytest
        from django.db import transaction
        from faststream_django import publish, publish_on_commit

        @pytest.mark.django_db
        def test_in_a_transaction_that_never_commits(captured_messages):
            with transaction.atomic():
                publish_on_commit({"id": 1}, "orders")
                assert not captured_messages
            captured_messages.assert_published("orders", body={"id": 1}, count=1)

        @pytest.mark.django_db
        def test_nothing_is_left_of_the_test_before(captured_messages):
            assert not captured_messages

        def test_begun_before_the_transaction_of_the_test(captured_messages, db):
            publish_on_commit({"id": 1}, "orders")
            assert len(captured_messages) == 1

        @pytest.mark.django_db(transaction=True)
        def test_with_real_commits(captured_messages):
            with transaction.atomic():
                publish_on_commit({"id": 1}, "orders")
                assert not captured_messages
            captured_messages.assert_published("orders", body={"id": 1}, count=1)

        @pytest.mark.django_db
        def test_with_executed_callbacks(captured_messages, django_capture_on_commit_callbacks):
            with django_capture_on_commit_callbacks(execute=True):
                publish_on_commit({"id": 1}, "orders")
            assert len(captured_messages) == 1

        def test_without_a_database(captured_messages):
            publish({"id": 1}, "orders")
            assert len(captured_messages) == 1
        """,
        "pytest_django.plugin",
    )

    result.assert_outcomes(passed=6)


def test_the_fixture_in_unittest_test_cases(project):
    result = project(
        """
        import pytest
        from django.test import TestCase
        from faststream_django import apublish_on_commit, publish_on_commit

        @pytest.mark.usefixtures("captured_messages")
        class TestOrder(TestCase):
            @pytest.fixture(autouse=True)
            def _keep_messages(self, captured_messages):
                self.messages = captured_messages

            def test_sync(self):
                publish_on_commit({"id": 1}, "orders")
                self.messages.assert_published("orders", count=1)

            async def test_async(self):
                await apublish_on_commit({"id": 1}, "orders")
                self.messages.assert_published("orders", count=1)
        """,
        "pytest_django.plugin",
    )

    result.assert_outcomes(passed=2)


def test_the_fixture_in_async_tests(project):
    result = project(
        """
        import pytest
        from faststream_django import apublish

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_async(captured_messages):
            await apublish({"id": 1}, "orders")
            assert captured_messages[0].body == {"id": 1}
        """,
        "pytest_django.plugin",
        "anyio",
    )

    result.assert_outcomes(passed=1)


def test_the_plugin_does_no_harm_without_django(project, monkeypatch):
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")

    result = project(
        """
        import sys

        def test_nothing():
            assert "faststream_django.testing" not in sys.modules
            assert "faststream" not in sys.modules
        """
    )

    result.assert_outcomes(passed=1)


def test_loading_the_plugin_reads_no_settings_and_starts_nothing(run_script):
    """pytest loads it in every project of the environment."""
    done = run_script(
        """
        import sys, threading
        import faststream_django.pytest_plugin

        from django.conf import settings

        slow = {"faststream", "pydantic", "aio_pika", "faststream_django.testing"}
        print(settings.configured, threading.active_count(), slow & sys.modules.keys() or "")
        """
    )

    assert done.stdout.split() == ["False", "1"], done.stderr
