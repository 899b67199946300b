"""A row is part of the caller's transaction, and says the same as the message."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connections, transaction

from faststream_django import (
    Message,
    apublish_many_on_commit,
    apublish_on_commit,
    publish_many_on_commit,
    publish_on_commit,
)
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
        ids = publish_many_on_commit(range(70), "orders", ordering_key="a")

    assert list(OutboxMessage.objects.values_list("message_id", flat=True)) == ids
    assert [int(bytes(row.body)) for row in OutboxMessage.objects.all()] == list(range(70))


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


def test_five_thousand_messages_are_rows_in_their_order(outbox):
    with transaction.atomic():
        ids = publish_many_on_commit(range(5000), "orders", ordering_key="a")

    rows = OutboxMessage.objects.order_by("id")
    assert list(rows.values_list("message_id", flat=True)) == ids
    assert [int(bytes(body)) for body in rows.values_list("body", flat=True)] == list(range(5000))


def test_big_bodies_are_cut_into_statements_of_a_bearable_size(outbox, monkeypatch):
    sizes = []

    def measure(execute, sql, params, many, context):
        if sql.startswith("INSERT"):
            values = params[-1] if isinstance(params[-1], list) else params
            sizes.append(sum(len(each) for each in values if isinstance(each, (bytes, memoryview))))
        return execute(sql, params, many, context)

    with transaction.atomic(), connections["default"].execute_wrapper(measure):
        publish_many_on_commit([bytes(1024 * 1024)] * 10, "orders", ordering_key="a")

    assert len(sizes) == 3
    assert sum(sizes) in (0, 10 * 1024 * 1024)  # MySQL's driver has types of its own
    assert max(sizes) <= 4 * 1024 * 1024
    assert OutboxMessage.objects.count() == 10


def test_transaction_managed_by_hand_stores_for_the_relay(outbox):
    """Nobody tells when it commits, so that nothing of it can be sent from here."""
    transaction.set_autocommit(False)
    try:
        publish_on_commit(1, "orders")
        publish_many_on_commit([2, 3], "orders")
        transaction.commit()
        publish_on_commit(4, "orders")
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)

    assert [row.state for row in OutboxMessage.objects.all()] == [State.READY] * 3
    assert bodies(outbox.server) == []


def test_unknown_database_is_refused(outbox):
    with pytest.raises(connections.exception_class):
        publish_on_commit("x", "orders", using="nowhere")


def test_error_of_the_database_reaches_the_caller(outbox, monkeypatch):
    publish_on_commit("warm", "orders")
    monkeypatch.setattr(OutboxMessage._meta, "db_table", "dropped_meanwhile")
    monkeypatch.setattr("faststream_django.outbox.writing._refuse_database", lambda connection: None)

    with pytest.raises(DatabaseError), transaction.atomic():
        publish_on_commit("x", "orders")


@pytest.mark.parametrize("count", [1, 3])
def test_text_of_all_kinds_survives_the_insert(outbox, count):
    """Also where it travels as JSON: PostgreSQL takes several rows so."""
    headers = {"text": "é 你好 \U0001f600 \" ' \\ % %s %(a)s \t", "nul": "a\x00b", "raw": bytes(range(256))}
    sent = [
        Message.encode(bytes(range(256)), "ö % ' \" \\ 你", headers=headers, message_id=f"{number} ' \\ % é")
        for number in range(count)
    ]

    publish_many_on_commit(sent, ordering_key="ключ ' \\ %s")

    rows = list(OutboxMessage.objects.order_by("id"))
    assert [bytes(row.body) for row in rows] == [bytes(range(256))] * count
    assert [row.message_id for row in rows] == [each.message_id for each in sent]
    assert {(row.routing_key, row.ordering_key) for row in rows} == {("ö % ' \" \\ 你", "ключ ' \\ %s")}
    assert [decode_properties(row.properties)["headers"] for row in rows] == [headers] * count


def test_async_twins_store_too(outbox):
    with transaction.atomic():
        async_to_sync(apublish_on_commit)("x", "orders", ordering_key="a")
        ids = async_to_sync(apublish_many_on_commit)(["y", "z"], "orders", ordering_key="a")
        transaction.set_rollback(True)
    assert OutboxMessage.objects.count() == 0

    ids = async_to_sync(apublish_many_on_commit)(["y", "z"], "orders", ordering_key="a")
    assert list(OutboxMessage.objects.order_by("id").values_list("message_id", flat=True)) == ids


def test_nothing_is_nothing(outbox):
    assert publish_many_on_commit([], "orders") == []
    assert OutboxMessage.objects.count() == 0
