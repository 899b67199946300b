"""ON_FAILURE: what certainly was not sent, for the lack of a broker, is stored instead."""

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.db.utils import DatabaseError

from faststream_django import (
    apublish,
    brokers,
    publish,
    publish_many,
    publish_on_commit,
)
from faststream_django.exceptions import (
    BrokerBlocked,
    BrokerRefused,
    BrokerUnavailable,
    BulkPublishError,
    ConnectionLost,
    InvalidMessage,
    MessageRejected,
    MessageUnroutable,
    PublishTimeout,
    TooManyInFlight,
)
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.publishing import durable
from faststream_django.signals import message_deferred, message_failed, message_published
from tests.test_app.models import Order

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

apublish_now = async_to_sync(apublish)
either_door = pytest.mark.parametrize("send", [publish, apublish_now], ids=["publish", "apublish"])


@pytest.fixture
def failing(settings, recorder):
    """Have what is published fail with an error, and be stored."""
    settings.FASTSTREAM = {"default": {"URL": "memory://", "ON_FAILURE": "outbox"}}

    def fail(error):
        recorder.fail("x", error)
        return recorder

    return fail


@pytest.fixture
def heard():
    """What the receivers of the signals were called with."""
    received = []

    def receive(signal, **arguments):
        names = {message_deferred: "deferred", message_failed: "failed", message_published: "published"}
        received.append((names[signal], arguments["message"].message_id, arguments.get("error")))

    for each in (message_deferred, message_failed, message_published):
        each.connect(receive)
    yield received
    for each in (message_deferred, message_failed, message_published):
        each.disconnect(receive)


@either_door
@pytest.mark.parametrize(
    "kind", [BrokerUnavailable, BrokerBlocked, BrokerRefused, TooManyInFlight, PublishTimeout]
)
def test_what_was_not_sent_is_stored_and_its_id_returned(failing, heard, caplog, send, kind):
    error = kind("nobody is there")
    failing(error)

    message_id = send("x", "orders", headers={"secret": "hunter2"})

    row = OutboxMessage.objects.get()
    assert (row.message_id, row.broker, row.state) == (message_id, "default", State.READY)
    assert heard == [("deferred", message_id, error)]
    assert f"message_id={message_id!r} state=deferred reason='nobody is there'" in caplog.text
    assert "hunter2" not in caplog.text


@either_door
@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("x"),
        PublishTimeout("x", maybe_sent=True),
        BrokerUnavailable("x", maybe_sent=True),
        MessageUnroutable("x"),
        MessageRejected("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_have_been_sent_or_was_refused_is_raised(failing, heard, send, error):
    failing(error)

    with pytest.raises(type(error)) as raised:
        send("x", "orders")

    assert raised.value is error
    assert not OutboxMessage.objects.exists()
    assert [name for name, *_ in heard] == ["failed"]


def test_invalid_message_is_raised(failing, heard):
    failing(BrokerUnavailable("x"))

    with pytest.raises(InvalidMessage):
        publish(object(), "orders")

    assert not OutboxMessage.objects.exists()


def test_nothing_is_stored_by_default(failing, settings, heard):
    failing(BrokerUnavailable("x"))
    settings.FASTSTREAM = {"default": {"URL": "memory://", "ON_COMMIT": "outbox"}}

    with pytest.raises(BrokerUnavailable):
        publish("x", "orders")

    assert not OutboxMessage.objects.exists()


def test_row_is_part_of_the_open_transaction(failing):
    failing(BrokerUnavailable("x"))

    with transaction.atomic():
        publish("x", "orders")
        transaction.set_rollback(True)
    assert not OutboxMessage.objects.exists()

    with transaction.atomic():
        publish("x", "orders")
    assert OutboxMessage.objects.count() == 1


def test_row_is_in_the_database_that_the_routers_choose(failing, settings):
    class Router:
        def db_for_write(self, model, **hints):
            return "other" if model is OutboxMessage else None

    settings.DATABASE_ROUTERS = [Router()]
    failing(BrokerUnavailable("x"))

    publish("x", "orders")

    assert OutboxMessage.objects.using("other").count() == 1
    assert OutboxMessage.objects.using("default").count() == 0


@either_door
def test_error_is_raised_with_a_note_where_there_is_no_table(failing, heard, monkeypatch, send):
    monkeypatch.setattr("faststream_django.outbox.writing._ready", set())
    monkeypatch.setattr(OutboxMessage._meta, "db_table", "not_migrated")
    error = BrokerUnavailable("nobody is there")
    failing(error)

    with pytest.raises(BrokerUnavailable) as raised:
        send("x", "orders")

    assert raised.value is error
    assert error.__notes__ == ["Storing it in the outbox failed too: OutboxNotReady."]
    assert [name for name, *_ in heard] == ["failed"]


def test_error_of_the_database_leaves_the_transaction_usable(failing, monkeypatch, caplog):
    publish_on_commit("warm", "orders")
    monkeypatch.setattr(OutboxMessage._meta, "db_table", "not_migrated")
    monkeypatch.setattr("faststream_django.outbox.writing._refuse_database", lambda connection: None)
    error = BrokerUnavailable("nobody is there")
    failing(error)

    with transaction.atomic():
        Order.objects.create(number=1)
        with pytest.raises(BrokerUnavailable):
            publish("x", "orders")
        Order.objects.create(number=2)

    assert Order.objects.count() == 2
    assert error.__notes__[0].startswith("Storing it in the outbox failed too: ")
    assert issubclass(caplog.records[-1].exc_info[0], DatabaseError)


def test_error_is_raised_with_a_note_where_the_app_is_missing(failing, monkeypatch):
    monkeypatch.setattr(durable, "_store", None)
    error = BrokerUnavailable("nobody is there")
    failing(error)

    with pytest.raises(BrokerUnavailable):
        publish("x", "orders")

    assert error.__notes__ == ["Storing it in the outbox failed too: OutboxNotReady."]


def test_publish_many_and_on_commit_in_memory_are_not_covered(failing, settings, unreachable_port):
    failing(BrokerUnavailable("x"))

    publish_on_commit("x", "orders")
    with pytest.raises(BrokerUnavailable):
        publish_on_commit("x", "orders", robust=False)
    with pytest.raises(BulkPublishError):
        publish_many(["x"], "orders")

    assert not OutboxMessage.objects.exists()


def test_broker_that_nobody_can_reach(settings, unreachable_port):
    settings.FASTSTREAM = {
        "default": {
            "URL": f"amqp://guest:guest@127.0.0.1:{unreachable_port}/",
            "ON_FAILURE": "outbox",
            "TIMEOUT": 0.3,
        }
    }

    ids = [publish(1, "orders"), apublish_now(2, "orders")]
    brokers.stop(0.1)

    assert list(OutboxMessage.objects.values_list("message_id", flat=True)) == ids


def test_connection_of_a_caller_without_autocommit_is_left_as_it_is(failing):
    failing(BrokerUnavailable("x"))
    transaction.set_autocommit(False)
    try:
        publish("x", "orders")
        assert not connection.get_autocommit()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert OutboxMessage.objects.count() == 1
