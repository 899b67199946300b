from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test import Client, TestCase, TransactionTestCase

from faststream_django import (
    apublish,
    apublish_on_commit,
    publish,
    publish_many_on_commit,
    publish_on_commit,
)
from faststream_django.exceptions import BrokerUnavailable, ConnectionLost
from faststream_django.outbox.models import OutboxMessage
from faststream_django.testing import capture_messages

IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)


def bodies(messages):
    return [captured.body for captured in messages]


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


class OutboxInTestCase(OnCommitInTestCase):
    """As in memory, and nothing of the rows is seen."""

    on_commit = "outbox"

    def test_a_failed_delivery_after_the_commit_is_logged(self):
        """It is the relay's then, whose row it stays."""
        with (
            capture_messages(fail_with=ConnectionLost("lost")) as messages,
            self.assertLogs("faststream_django.outbox", "WARNING") as logs,
            self.captureOnCommitCallbacks(execute=True),
        ):
            publish_on_commit(1, "orders")

        assert "state=left-to-relay" in logs.output[0]
        assert not messages
        assert OutboxMessage.objects.count() == 1

    def test_a_failed_delivery_raises_where_it_is_asked_to(self):
        """Nowhere: the message is not lost."""
        with (
            capture_messages(fail_with=BrokerUnavailable) as messages,
            self.captureOnCommitCallbacks(execute=True),
        ):
            publish_on_commit(1, "orders", robust=False)

        assert not messages

    def test_rows_are_gone_once_the_callbacks_were_executed(self):
        with capture_messages() as messages, self.captureOnCommitCallbacks(execute=True):
            publish_on_commit(1, "orders", expiration=60)
            publish_on_commit(2, "orders", ordering_key="a")
            publish_on_commit(3, "orders", deliver_at=IN_AN_HOUR)
            publish_many_on_commit([4, 5], "orders")
            assert OutboxMessage.objects.count() == 5

        assert bodies(messages) == [1, 2, 3, 4, 5]
        assert messages[0].message.expiration == 60
        assert OutboxMessage.objects.count() == 0

    def test_keyed_and_delayed_messages_count_as_the_others(self):
        with capture_messages() as messages:
            with transaction.atomic():
                publish_on_commit(1, "orders", ordering_key="a")
                publish_on_commit(2, "orders", deliver_at=IN_AN_HOUR)
                publish_on_commit(3, "orders")
                assert not messages

            assert bodies(messages) == [1, 2, 3]


class OutboxInTransactionTestCase(OnCommitInTransactionTestCase):
    """Real transactions: the caller's thread sends, so that the messages are there at once."""

    on_commit = "outbox"

    def test_keyed_and_delayed_messages_are_captured_and_their_rows_gone(self):
        with capture_messages() as messages:
            with transaction.atomic():
                publish_on_commit(1, "orders", ordering_key="a")
                publish_on_commit(2, "orders", deliver_at=IN_AN_HOUR)
            publish_on_commit(3, "orders", ordering_key="a")

            assert bodies(messages) == [1, 2, 3]
        assert OutboxMessage.objects.count() == 0

    def test_a_savepoint_rolled_back_by_hand_publishes_nothing(self):
        with capture_messages() as messages, transaction.atomic():
            savepoint = connection.savepoint()
            publish_on_commit(1, "orders")
            connection.savepoint_rollback(savepoint)

        assert not messages

    def test_what_failed_waits_for_the_relay(self):
        with capture_messages(fail_with=[None, BrokerUnavailable]) as messages:
            publish_on_commit(1, "orders")
            publish_on_commit(2, "orders")

        assert bodies(messages) == [1]
        assert OutboxMessage.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("on_commit", ["memory", "outbox"])
def test_callbacks_captured_by_pytest_django_count_once(
    no_broker, captured_messages, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        publish_on_commit(1, "orders")
        publish_many_on_commit([2, 3], "orders")

    assert len(callbacks) == 3
    assert bodies(captured_messages) == [1, 2, 3]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("on_commit", ["memory", "outbox"])
def test_list_is_captured_with_its_commit(no_broker, captured_messages):
    with transaction.atomic():
        ids = publish_many_on_commit(range(1000), "orders")
        assert not captured_messages

    assert bodies(captured_messages) == list(range(1000))
    assert [captured.message_id for captured in captured_messages] == ids
