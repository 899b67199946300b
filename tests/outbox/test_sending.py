"""What has committed is sent while there is time; what is not confirmed stays a row."""

import time
from dataclasses import replace
from functools import partial

import pytest

from faststream_django import publish_many_on_commit, publish_on_commit
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.exceptions import MessageUnroutable
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.sending import delete_rows, send_rows
from faststream_django.outbox.writing import store_with
from faststream_django.publishing import durable
from faststream_django.signals import message_failed, message_published
from tests.publishing.verbs import bodies

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


@pytest.fixture
def stored(outbox, monkeypatch):
    """The rows that were handed over, in place of being sent."""
    outbox(OUTBOX={"GRACE": 30.0})  # more than a busy machine needs to import the driver
    rows = []
    monkeypatch.setattr(durable, "_store", partial(store_with, lambda stored, robust: rows.extend(stored)))
    return rows


@pytest.fixture
def heard():
    received = []

    def receive(signal, message, **arguments):
        received.append((signal is message_published, message.decode(), arguments.get("error")))

    for each in (message_published, message_failed):
        each.connect(receive)
    yield received
    for each in (message_published, message_failed):
        each.disconnect(receive)


def older(rows, seconds):
    """Return the rows as if so much time had passed."""
    return [replace(each, stored_at=each.stored_at - seconds) for each in rows]


def test_confirmed_rows_are_deleted_and_announced(outbox, stored, heard):
    publish_many_on_commit(range(3), "orders")

    away = send_rows(stored)

    assert away == set()
    assert bodies(outbox.server) == [0, 1, 2]
    assert OutboxMessage.objects.count() == 0
    assert heard == [(True, 0, None), (True, 1, None), (True, 2, None)]


def test_row_that_is_gone_is_not_sent(outbox, stored):
    publish_many_on_commit(range(3), "orders")
    delete_rows("default", [stored[1].row_id])

    send_rows(stored)

    assert bodies(outbox.server) == [0, 2]


def test_what_had_no_time_before_its_turn_is_left_to_relay(outbox, stored, caplog):
    publish_many_on_commit(range(2), "orders")

    send_rows([*older(stored[:1], 15.5), *older(stored[1:], 5.0)])

    assert bodies(outbox.server) == [1]
    assert [row.message_id for row in OutboxMessage.objects.all()] == [stored[0].message.message_id]
    assert "count=1 state=left-to-relay reason='no time is left'" in caplog.text


def test_message_is_under_way_no_longer_than_its_row_is_kept_from_relay(outbox, stored, counting_port):
    """The timeout of the alias is longer than what GRACE leaves."""
    outbox(URL=counting_port.url, TIMEOUT=60, OUTBOX={"GRACE": 0.4})
    publish_on_commit(1, "orders")
    began = time.monotonic()

    away = send_rows(stored)

    assert away == {"default"}
    assert time.monotonic() - began < 30
    assert OutboxMessage.objects.count() == 1


def test_expired_message_is_deleted_and_not_sent(outbox, stored, heard):
    publish_on_commit("over", "orders", expiration=1)
    publish_on_commit("fresh", "orders", expiration=60)

    send_rows(older(stored, 2))

    assert bodies(outbox.server) == ["fresh"]
    assert OutboxMessage.objects.count() == 0
    assert [body for _, body, _ in heard] == ["fresh"]


def test_expiration_counts_from_the_call(outbox, stored):
    sent = []
    publish_on_commit("x", "orders", expiration=60)

    def receive(message, **arguments):
        sent.append(message.expiration)

    message_published.connect(receive)
    send_rows(older(stored, 2))
    message_published.disconnect(receive)

    assert len(sent) == 1
    assert 50 < sent[0] <= 58


def test_refused_message_is_announced_and_stays_and_others_go_on(outbox, stored, heard):
    publish_on_commit("lost", "nowhere")
    publish_on_commit("fine", "orders")

    away = send_rows(stored)

    assert away == set()
    assert [row.routing_key for row in OutboxMessage.objects.all()] == ["nowhere"]
    assert {(ok, body, type(error)) for ok, body, error in heard} == {
        (False, "lost", MessageUnroutable),
        (True, "fine", type(None)),
    }


def test_outage_is_no_failure_of_a_message(outbox, stored, heard, unreachable_port):
    outbox(URL=f"amqp://guest:guest@127.0.0.1:{unreachable_port}/", TIMEOUT=0.2)
    publish_on_commit("x", "orders")

    away = send_rows(stored)

    assert away == {"default"}
    assert heard == []
    assert OutboxMessage.objects.count() == 1


def test_broker_with_wrong_settings_stops_no_other(outbox, stored, settings, caplog):
    entry = settings.FASTSTREAM["default"]
    settings.FASTSTREAM = {"wrong": entry | {"BACKEND": "tests.no_such.Backend"}, "default": entry}
    publish_on_commit(1, "orders", broker="wrong")
    publish_on_commit(2, "orders")

    away = send_rows(stored)

    assert away == {"wrong"}
    assert bodies(MemoryServer.get(entry["URL"])) == [2]
    assert [row.broker for row in OutboxMessage.objects.all()] == ["wrong"]


def test_failing_database_raises_nothing(outbox, stored, monkeypatch, caplog):
    publish_on_commit(1, "orders")

    with monkeypatch.context() as patch:
        patch.setattr(OutboxMessage._meta, "db_table", "not_there")
        send_rows(stored)

    assert "using=default count=1 state=left-to-relay reason=" in caplog.text
    assert bodies(outbox.server) == []
    assert OutboxMessage.objects.count() == 1


def test_two_messages_with_one_id_are_two_rows(outbox, stored):
    publish_on_commit(1, "orders", message_id="same")
    publish_on_commit(2, "orders", message_id="same")

    send_rows(stored)

    assert bodies(outbox.server) == [1, 2]
    assert OutboxMessage.objects.count() == 0
