"""What has committed is sent by the thread of the process, which the caller does not wait for."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections, transaction

from faststream_django import publish_many_on_commit, publish_on_commit
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.outbox import sending
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.signals import message_published
from tests.outbox.waiting import SOON, wait_for_no_rows, wait_until
from tests.publishing.verbs import bodies

# The thread has connections of its own, which see nothing of the transaction of a test.
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


# Its name until Django 6.0.
create_savepoint = getattr(transaction, "savepoint_create", None) or transaction.savepoint


@pytest.fixture
def held(monkeypatch):
    """Hold the thread up before it sends; an event that lets it go on."""
    held, entered = threading.Event(), threading.Event()
    send_rows = sending.send_rows

    def hold(stored):
        entered.set()
        assert held.wait(SOON)
        return send_rows(stored)

    monkeypatch.setattr("faststream_django.outbox.eager.send_rows", hold)
    held.entered = entered
    yield held
    held.set()


@pytest.fixture
def notified(monkeypatch):
    """The relays that were woken."""
    woken = []
    monkeypatch.setattr(sending, "notify", lambda using, aliases: woken.append((using, set(aliases))))
    return woken


def test_committed_message_is_sent_by_thread_and_row_deleted(outbox, eager):
    idents = []

    def note(**kwargs):
        idents.append(threading.get_ident())

    message_published.connect(note)

    with transaction.atomic():
        publish_on_commit({"n": 1}, "orders")
    wait_for_no_rows()
    message_published.disconnect(note)

    assert bodies(outbox.server) == [{"n": 1}]
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_caller_does_not_wait_and_pays_for_insert_only(outbox, eager, held, django_assert_num_queries):
    publish_on_commit(0, "orders")

    with transaction.atomic(), django_assert_num_queries(1):
        publish_on_commit(1, "orders")

    assert OutboxMessage.objects.count() == 2
    held.set()
    wait_for_no_rows()


def test_message_outside_of_transaction_is_handed_over_at_once(outbox, eager):
    publish_on_commit(1, "orders")

    wait_for_no_rows()
    assert bodies(outbox.server) == [1]


def test_what_is_rolled_back_is_not_sent(outbox, eager):
    with transaction.atomic():
        publish_on_commit(1, "orders")
        savepoint = create_savepoint()
        publish_on_commit(2, "orders")
        transaction.savepoint_rollback(savepoint)  # Django keeps the callback of its messages
        publish_on_commit(3, "orders")
    with transaction.atomic():
        publish_on_commit(4, "orders")
        transaction.set_rollback(True)
    publish_on_commit(5, "orders")

    wait_for_no_rows()
    assert bodies(outbox.server) == [1, 3, 5]


def test_messages_of_several_databases_are_sent(outbox, eager, held):
    publish_on_commit(0, "orders")
    publish_on_commit(1, "orders", using="other")
    publish_on_commit(2, "orders")
    held.set()

    wait_for_no_rows()
    wait_for_no_rows("other")
    assert sorted(bodies(outbox.server)) == [0, 1, 2]


def test_keyed_message_is_left_to_relay_which_is_woken_once_for_many(outbox, eager, held, notified):
    publish_on_commit(0, "orders")
    assert held.entered.wait(SOON)
    for number in range(1, 4):
        publish_on_commit(number, "orders", ordering_key="a")
    held.set()

    wait_until(lambda: notified, "a notification")
    eager().stop(SOON)

    assert notified == [("default", {"default"})]
    assert bodies(outbox.server) == [0]
    assert [row.state for row in OutboxMessage.objects.all()] == [State.READY] * 3


def test_delayed_message_is_left_alone(outbox, eager, notified):
    publish_on_commit(1, "orders", deliver_at=datetime.now(UTC) + timedelta(hours=1))
    publish_on_commit(2, "orders")

    wait_until(lambda: OutboxMessage.objects.count() == 1)
    assert bodies(outbox.server) == [2]
    assert notified == []


def test_message_without_key_wakes_relay_where_eager_is_off(outbox, eager, notified):
    outbox(OUTBOX={"EAGER": False})

    publish_on_commit(1, "orders")

    wait_until(lambda: notified, "a notification")
    assert OutboxMessage.objects.get().state == State.READY


def test_what_does_not_fit_is_left_to_relay(outbox, eager, held, caplog):
    eager(most=3)
    publish_on_commit(0, "orders")
    assert held.entered.wait(SOON)

    publish_many_on_commit(range(1, 6), "orders")
    held.set()

    wait_until(lambda: OutboxMessage.objects.count() == 2)
    assert bodies(outbox.server) == [0, 1, 2, 3]
    assert "count=2 state=left-to-relay reason='too many wait'" in caplog.text


def test_broker_that_is_away_fails_nobody_and_holds_up_no_other_for_long(
    outbox, eager, settings, unreachable_port, monkeypatch, caplog
):
    monkeypatch.setattr("faststream_django.outbox.resting.RESTING", 60.0)
    entry = settings.FASTSTREAM["default"]
    away = {"URL": f"amqp://guest:guest@127.0.0.1:{unreachable_port}/", "ON_COMMIT": "outbox", "TIMEOUT": 0.2}
    settings.FASTSTREAM = {"default": entry, "away": away}

    for number in range(10):
        publish_on_commit(number, "orders", broker="away")
        publish_on_commit(number, "orders")
        wait_until(lambda: not OutboxMessage.objects.filter(broker="default").exists())

    assert OutboxMessage.objects.filter(broker="away").count() == 10
    # Tried once, and then left alone for a while.
    assert caplog.text.count("broker=away count=1 state=left-to-relay") == 1
    assert bodies(MemoryServer.get(entry["URL"])) == list(range(10))


def test_row_of_refused_message_stays(outbox, eager):
    publish_on_commit(1, "nowhere")
    publish_on_commit(2, "orders")

    wait_until(lambda: OutboxMessage.objects.count() == 1)
    assert OutboxMessage.objects.get().routing_key == "nowhere"


@pytest.mark.postgresql
def test_terminated_database_connections_lose_and_repeat_nothing(outbox, eager):
    for number in range(10):
        publish_on_commit(number, "orders")
        wait_for_no_rows()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    assert bodies(outbox.server) == list(range(10))


@pytest.mark.postgresql
def test_connection_is_kept_while_busy_and_closed_when_idle(outbox, eager):
    def count():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity "
                "WHERE datname = current_database() AND backend_type = 'client backend'"
            )
            return cursor.fetchall()

    pids = set()
    for number in range(3):
        publish_on_commit(number, "orders")
        wait_for_no_rows()
        pids.add(tuple(sorted(count())))
    assert len(pids) == 1

    alone = len(count()) - 1
    eager(idle=0.01)
    publish_on_commit(3, "orders")
    wait_for_no_rows()
    publish_on_commit(4, "orders")
    wait_for_no_rows()
    wait_until(lambda: len(count()) == alone + 1, "the end of the idle connection")


def test_database_with_autocommit_off_keeps_no_transaction_open(outbox, eager, monkeypatch):
    """In AUTOCOMMIT=False each statement begins a transaction, which nobody would commit here."""
    connection.ensure_connection()  # that of the caller is as usual
    monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)

    publish_on_commit(1, "orders")

    wait_for_no_rows()
