from contextlib import suppress

import pytest
from django.test import TestCase

from faststream_django import publish, publish_many, publish_on_commit
from faststream_django.connection.bulk import CHUNK_MESSAGES
from faststream_django.exceptions import (
    BrokerDoesNotExist,
    BrokerUnavailable,
    BulkPublishError,
    ConnectionLost,
    MessageRejected,
    PublishError,
)
from faststream_django.signals import message_failed
from faststream_django.testing import capture_messages


def bodies(messages):
    return [captured.body for captured in messages]


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
