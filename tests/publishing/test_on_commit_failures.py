import logging

import pytest
from django.db import transaction

import faststream_django.backends.rabbit  # noqa: F401 - takes longer than the timeouts below
from faststream_django import brokers, publish_on_commit
from faststream_django.exceptions import (
    BrokerUnavailable,
    BulkPublishError,
    MessageRejected,
    MessageUnroutable,
)
from tests.test_app.models import Order

# A transaction that really commits and rolls back: the tests may not run inside one themselves.
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


def say(body, **options):
    return publish_on_commit(body, "orders", **options)


def unroutable():
    return MessageUnroutable("nobody takes it", message_id="m", broker="default")


def test_failed_delivery_leaves_the_data_and_the_other_messages_and_callbacks_alone(recorder, caplog):
    recorder.fail("lost", unroutable())
    called = []

    with transaction.atomic():
        Order.objects.create(number=1)
        say("first")
        say("lost")
        say("last")
        transaction.on_commit(lambda: called.append("later"))

    assert Order.objects.count() == 1
    assert recorder.bodies == ["first", "lost", "last"]
    assert called == ["later"]


def test_unexpected_error_in_a_robust_delivery_stops_no_other_callback(recorder, caplog):
    recorder.fail("broken", RuntimeError("nobody thought of it"))
    recorder.raises = True
    called = []

    with transaction.atomic():
        say("broken")
        transaction.on_commit(lambda: called.append("later"))

    assert called == ["later"]
    assert "nobody thought of it" in caplog.text


def test_failed_delivery_is_logged_once_without_the_payload(recorder, caplog):
    recorder.fail("secret", unroutable())

    with transaction.atomic():
        message_id = say("secret")

    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    text = record.getMessage()
    assert record.name == "faststream_django.publish"
    assert record.levelno == logging.ERROR
    assert message_id in text
    assert "nobody takes it" in text
    assert "maybe_sent=False" in text
    assert "secret" not in text


def test_failed_delivery_is_sent_to_the_signal(recorder, failed):
    error = unroutable()
    recorder.fail("lost", error)

    with transaction.atomic():
        say("fine")
        say("lost")

    assert failed == [("lost", error)]


def test_robust_failure_outside_a_transaction_is_logged_and_not_raised(recorder, caplog, failed):
    recorder.fail("lost", unroutable())

    message_id = say("lost")

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert message_id in caplog.text
    assert [body for body, _ in failed] == ["lost"]


def test_fragile_failure_is_raised_after_the_commit_and_stops_later_callbacks(recorder, failed):
    error = unroutable()
    recorder.fail("lost", error)
    called = []

    with pytest.raises(MessageUnroutable) as raised, transaction.atomic():
        Order.objects.create(number=1)
        say("lost", robust=False)
        transaction.on_commit(lambda: called.append("later"))

    assert raised.value is error
    assert Order.objects.count() == 1
    assert called == []
    assert failed == [("lost", error)]


def test_fragile_failure_of_several_messages_tells_which(recorder):
    recorder.fail("lost", unroutable())

    with pytest.raises(BulkPublishError) as raised, transaction.atomic():
        say("fine", robust=False)
        say("lost", robust=False)
        say("fine too", robust=False)

    assert list(raised.value.errors) == [1]
    assert raised.value.confirmed == 2
    assert recorder.bodies == ["fine", "lost", "fine too"]


def test_fragile_failure_outside_a_transaction_is_raised_at_once(recorder):
    recorder.fail("lost", unroutable())

    with pytest.raises(MessageUnroutable):
        say("lost", robust=False)


def test_fragile_failure_does_not_keep_back_the_messages_of_another_broker(recorder):
    recorder.fail("lost", unroutable())

    with pytest.raises(MessageUnroutable), transaction.atomic():
        say("lost", robust=False)
        say("event", robust=False, broker="events")

    assert recorder.bodies == ["lost", "event"]


def test_messages_behind_a_lost_connection_are_reported_one_by_one(recorder, failed, caplog):
    recorder.fail("first", BrokerUnavailable("no connection", message_id="m", broker="default"))
    recorder.stop_at = 1

    with transaction.atomic():
        say("first")
        second = say("second")
        third = say("third")

    errors = [error for _, error in failed]
    assert [body for body, _ in failed] == ["first", "second", "third"]
    assert [error.message_id for error in errors[1:]] == [second, third]
    assert all(isinstance(error, BrokerUnavailable) and not error.maybe_sent for error in errors)
    assert len({id(error) for error in errors}) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3


def test_broker_that_is_away_does_not_undo_the_commit(settings, unreachable_port, failed, caplog):
    settings.FASTSTREAM = {"default": {"URL": f"amqp://guest:guest@127.0.0.1:{unreachable_port}/"}}

    with transaction.atomic():
        Order.objects.create(number=1)
        say("lost", timeout=0.3)
    brokers.stop()

    assert Order.objects.count() == 1
    [(body, error)] = failed
    assert body == "lost"
    assert isinstance(error, BrokerUnavailable)


def test_full_queue_loses_only_what_it_refused(settings, failed, caplog):
    queue = {"arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}}
    settings.FASTSTREAM = {"default": {"URL": "memory://full", "QUEUES": {"full": queue, "orders": {}}}}

    with transaction.atomic():
        publish_on_commit("fits", "full")
        publish_on_commit("too much", "full")
        publish_on_commit("elsewhere", "orders")
    brokers.stop()

    [(body, error)] = failed
    assert body == "too much"
    assert isinstance(error, MessageRejected)
