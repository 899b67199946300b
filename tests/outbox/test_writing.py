"""A row is part of the caller's transaction, and says the same as the message."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connections, transaction

from faststream_django import Message, publish_many_on_commit, publish_on_commit
from faststream_django.exceptions import InvalidMessage, OutboxNotReady
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.rows import decode_properties
from tests.publishing.verbs import bodies

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


def test_row_commits_and_rolls_back_with_its_transaction(outbox):
    with transaction.atomic():
        publish_on_commit({"n": 1}, "orders", ordering_key="a")
        assert OutboxMessage.objects.count() == 1
        transaction.set_rollback(True)

    assert OutboxMessage.objects.count() == 0

    with transaction.atomic():
        publish_on_commit({"n": 1}, "orders", ordering_key="a")

    assert OutboxMessage.objects.count() == 1


def test_committed_message_is_sent_and_its_row_deleted(outbox):
    with transaction.atomic():
        publish_on_commit({"n": 1}, "orders")
        row = OutboxMessage.objects.get()
        assert row.state == State.WAITING

    assert OutboxMessage.objects.count() == 0
    assert bodies(outbox.server) == [{"n": 1}]


def test_message_survives_the_trip_through_its_row(outbox):
    headers = {
        "price": Decimal("1.50"),
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "raw": b"\x00\xff",
        "nested": {"~": "no tag", "list": [1, 2.5, None, True, b"x"]},
    }
    message = Message.encode(
        {"n": 1}, "orders", headers=headers, priority=3, message_type="t", persist=False, mandatory=False
    )

    publish_on_commit(message, ordering_key="a")

    row = OutboxMessage.objects.get()
    columns = {"message_id": row.message_id, "exchange": row.exchange, "routing_key": row.routing_key}
    assert Message(body=bytes(row.body), **columns, **decode_properties(row.properties)) == message


def test_delayed_message_waits_for_its_moment(outbox):
    moment = datetime.now(UTC) + timedelta(hours=1)

    publish_on_commit("x", "orders", deliver_at=moment)

    row = OutboxMessage.objects.get()
    assert (row.state, row.due) == (State.WAITING, moment)


def test_messages_of_a_list_are_rows_in_their_order(outbox, django_assert_num_queries):
    publish_on_commit("x", "orders", ordering_key="warm")
    OutboxMessage.objects.all().delete()

    with transaction.atomic(), django_assert_num_queries(1):
        ids = publish_many_on_commit(range(100), "orders", ordering_key="a")

    assert list(OutboxMessage.objects.values_list("message_id", flat=True)) == ids
    assert [int(bytes(row.body)) for row in OutboxMessage.objects.all()] == list(range(100))


def test_row_is_in_the_database_of_the_transaction(outbox):
    publish_on_commit("x", "orders", using="other", ordering_key="a")

    assert OutboxMessage.objects.using("other").count() == 1
    assert OutboxMessage.objects.using("default").count() == 0


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"deliver_at": datetime(2030, 1, 1)}, "naive"),  # noqa: DTZ001
        ({"deliver_at": "tomorrow"}, "a str; pass an aware datetime"),
        ({"deliver_at": datetime(2030, 1, 1, tzinfo=UTC), "ordering_key": "a"}, "contradict"),
        ({"ordering_key": "k" * 300}, "300 bytes"),
        ({"ordering_key": 7}, "an int"),
    ],
)
def test_what_is_wrong_is_refused_and_the_transaction_goes_on(outbox, wrong, text):
    with transaction.atomic():
        with pytest.raises(InvalidMessage, match=text):
            publish_on_commit("x", "orders", **wrong)
        publish_on_commit("y", "orders", ordering_key="b")

    assert OutboxMessage.objects.count() == 1


def test_missing_table_is_refused_and_the_transaction_goes_on(outbox, monkeypatch):
    monkeypatch.setattr("faststream_django.outbox.writing._ready", set())
    monkeypatch.setattr(OutboxMessage._meta, "db_table", "not_migrated")

    with transaction.atomic():
        with pytest.raises(OutboxNotReady, match="migrate"):
            publish_on_commit("x", "orders")
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")


def test_list_without_a_transaction_is_stored_whole_or_not_at_all(outbox, monkeypatch):
    monkeypatch.setattr("faststream_django.outbox.inserting.ROWS", 2)
    publish_on_commit("x", "orders", ordering_key="first")
    inserts = iter([True, False])

    def fail_later(execute, sql, *rest):
        if sql.startswith("INSERT") and not next(inserts):
            raise DatabaseError("The server is gone.")
        return execute(sql, *rest)

    with connections["default"].execute_wrapper(fail_later), pytest.raises(DatabaseError):
        publish_many_on_commit(range(4), "orders", ordering_key="a")

    assert OutboxMessage.objects.filter(ordering_key="a").count() == 0
