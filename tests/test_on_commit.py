"""publish_on_commit() in every situation that a transaction can be in, on a real database."""

import asyncio
import logging

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

import faststream_django.backends.rabbit  # noqa: F401 - takes longer than the timeouts below
from faststream_django import apublish_on_commit, brokers, publish_on_commit
from faststream_django.exceptions import (
    BrokerUnavailable,
    BulkPublishError,
    InvalidMessage,
    MessageRejected,
    MessageUnroutable,
)
from faststream_django.publishing.on_commit import Pending
from faststream_django.signals import message_failed, message_published
from tests.recording import recording
from tests.test_app.models import Order

# A transaction that really commits and rolls back: the tests may not run inside one themselves.
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls(__name__),
]


@pytest.fixture
def recorder(settings):
    settings.FASTSTREAM = {
        "default": {"URL": "memory://", "TIMEOUT": 5},
        "events": {"URL": "memory://events", "TIMEOUT": 7},
    }
    with recording() as recorder:
        yield recorder


@pytest.fixture
def failed():
    """The bodies of the messages for which message_failed was sent, with their errors."""
    received = []

    def receive(sender, message, error, **kwargs):
        received.append((message.decode(), error))

    message_failed.connect(receive)
    yield received
    message_failed.disconnect(receive)


def say(body, **options):
    return publish_on_commit(body, "orders", **options)


def unroutable():
    return MessageUnroutable("nobody takes it", message_id="m", broker="default")


# The transaction


def test_autocommit_publishes_at_once(recorder):
    message_id = say("now")

    assert recorder.bodies == ["now"]
    assert recorder.sends[0].messages[0].message_id == message_id


def test_atomic_publishes_after_the_commit(recorder):
    with transaction.atomic():
        Order.objects.create(number=1)
        say("later")
        inside = recorder.bodies

    assert inside == []
    assert recorder.bodies == ["later"]


def test_message_leaves_when_the_data_is_visible_to_others(recorder):
    seen = []
    message_published.connect(receiver := lambda **kwargs: seen.append(Order.objects.count()))

    with transaction.atomic():
        Order.objects.create(number=1)
        say("later")
    message_published.disconnect(receiver)

    assert seen == [1]


def test_nested_atomic_waits_for_the_outermost_block(recorder):
    with transaction.atomic():
        with transaction.atomic():
            say("inner")
        after_inner = recorder.bodies
        say("outer")

    assert after_inner == []
    assert recorder.bodies == ["inner", "outer"]


def test_rollback_of_a_savepoint_drops_exactly_its_messages(recorder):
    with transaction.atomic():
        say("before")
        with pytest.raises(LookupError), transaction.atomic():
            say("dropped")
            with transaction.atomic():
                say("dropped too")
            raise LookupError
        say("after")

    assert recorder.bodies == ["before", "after"]


def test_rollback_of_an_inner_savepoint_keeps_the_messages_around_it(recorder):
    with transaction.atomic(), transaction.atomic():
        say("before")
        with pytest.raises(LookupError), transaction.atomic():
            say("dropped")
            raise LookupError
        say("after")

    assert recorder.bodies == ["before", "after"]


def test_released_savepoint_keeps_its_messages_in_order(recorder):
    with transaction.atomic():
        say("1")
        with transaction.atomic():
            say("2")
        with transaction.atomic():
            say("3")
        say("4")

    assert recorder.bodies == ["1", "2", "3", "4"]


def test_outer_rollback_drops_everything(recorder):
    with transaction.atomic():
        say("outer")
        with transaction.atomic():
            say("inner")
        transaction.set_rollback(True)

    assert recorder.bodies == []


def test_exception_in_the_block_drops_everything(recorder):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        say("dropped")
        raise ZeroDivisionError

    assert recorder.bodies == []


def test_messages_of_a_rolled_back_transaction_do_not_leave_with_the_next_one(recorder):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        say("dropped")
        raise ZeroDivisionError

    with transaction.atomic():
        say("kept")

    assert recorder.bodies == ["kept"]


def test_durable_block_publishes_after_its_commit(recorder):
    with transaction.atomic(durable=True):
        say("later")
        inside = recorder.bodies

    assert inside == []
    assert recorder.bodies == ["later"]


def test_block_without_a_savepoint_shares_the_fate_of_the_outer_one(recorder):
    with transaction.atomic():
        say("outer")
        with transaction.atomic(savepoint=False):
            say("inner")

    assert recorder.bodies == ["outer", "inner"]


def test_failed_block_without_a_savepoint_drops_the_outer_messages_too(recorder):
    with transaction.atomic():
        say("outer")
        with pytest.raises(LookupError), transaction.atomic(savepoint=False):
            say("inner")
            raise LookupError

    assert recorder.bodies == []


def test_savepoint_made_by_hand_is_treated_as_by_on_commit(recorder):
    """Django drops callbacks for the savepoints of atomic() only, and so do we."""
    called = []
    # Django 6.1 has a new name for it.
    savepoint_create = getattr(transaction, "savepoint_create", None) or transaction.savepoint

    with transaction.atomic():
        savepoint = savepoint_create()
        transaction.on_commit(lambda: called.append("on_commit"))
        say("message")
        transaction.savepoint_rollback(savepoint)

    assert called == ["on_commit"]
    assert recorder.bodies == ["message"]


def test_message_in_a_broken_transaction_is_dropped_with_it(recorder):
    with transaction.atomic():
        order = Order.objects.create(number=1)
        with pytest.raises(IntegrityError), transaction.atomic(savepoint=False):
            Order.objects.create(pk=order.pk, number=2)
        say("after the error")

    assert recorder.bodies == []


def test_transaction_managed_by_hand_is_refused_with_advice(recorder):
    transaction.set_autocommit(False)
    try:
        with pytest.raises(TransactionManagementError) as refused:
            say("never")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)

    assert recorder.bodies == []
    assert "transaction.atomic()" in str(refused.value)
    assert "publish()" in str(refused.value)
    assert "'default'" in str(refused.value)


def test_atomic_block_in_a_transaction_managed_by_hand_is_sent_with_the_commit(recorder):
    """As on_commit: the callbacks run when autocommit is on again."""
    transaction.set_autocommit(False)
    try:
        with transaction.atomic():
            say("later")
        inside = recorder.bodies
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert inside == []
    assert recorder.bodies == ["later"]


def test_each_database_has_its_own_transaction(recorder):
    with transaction.atomic(using="other"):
        say("on default")
        say("on other", using="other")
        inside = recorder.bodies

    assert inside == ["on default"]
    assert recorder.bodies == ["on default", "on other"]


def test_inner_transaction_of_another_database_commits_first(recorder):
    with pytest.raises(LookupError), transaction.atomic():
        say("on default")
        with transaction.atomic(using="other"):
            say("on other", using="other")
        raise LookupError

    assert recorder.bodies == ["on other"]


def test_unknown_database_is_refused_at_the_call(recorder):
    with pytest.raises(connections.exception_class):
        say("never", using="nowhere")

    assert recorder.bodies == []


def test_call_in_another_callback_publishes_at_once(recorder):
    with transaction.atomic():
        transaction.on_commit(lambda: say("in the callback"))
        say("behind it")

    assert recorder.bodies == ["in the callback", "behind it"]


def test_transaction_in_a_callback_publishes_after_its_own_commit(recorder):
    def callback():
        with transaction.atomic():
            say("inner transaction")
            say("inner transaction too")

    with transaction.atomic():
        say("before")
        transaction.on_commit(callback)
        say("after")

    assert recorder.bodies == ["before", "inner transaction", "inner transaction too", "after"]


# Order, and what travels together


def test_messages_keep_the_order_of_the_calls_among_other_callbacks(recorder):
    order = []

    def receive(sender, message, **kwargs):
        order.append(message.decode())

    message_published.connect(receive)
    with transaction.atomic():
        say("1")
        transaction.on_commit(lambda: order.append("callback"))
        say("2")
        say("3")
        transaction.on_commit(lambda: order.append("last callback"))
    message_published.disconnect(receive)

    assert order == ["1", "callback", "2", "3", "last callback"]
    assert len(recorder.sends) == 2


def test_hundred_messages_of_a_transaction_are_one_send(recorder):
    with transaction.atomic():
        for number in range(100):
            say(number)

    assert len(recorder.sends) == 1
    assert recorder.bodies == list(range(100))


def test_hundred_messages_of_a_savepoint_are_one_send(recorder):
    with transaction.atomic(), transaction.atomic():
        for number in range(100):
            say(number)

    assert len(recorder.sends) == 1
    assert recorder.bodies == list(range(100))


def test_messages_with_another_fate_are_not_merged(recorder):
    with transaction.atomic():
        say("outer")
        with transaction.atomic():
            say("inner")
        callbacks = len(connection.run_on_commit)

    assert callbacks == 2
    assert recorder.bodies == ["outer", "inner"]


def test_robust_and_fragile_messages_keep_their_order(recorder):
    with transaction.atomic():
        say("1")
        say("2", robust=False)
        say("3")

    assert recorder.bodies == ["1", "2", "3"]


def test_messages_for_several_brokers_travel_in_one_send_each(recorder):
    with transaction.atomic():
        for number in range(3):
            say(f"order {number}")
            say(f"event {number}", broker="events")

    assert [(send.broker, send.bodies) for send in recorder.sends] == [
        ("default", ["order 0", "order 1", "order 2"]),
        ("events", ["event 0", "event 1", "event 2"]),
    ]


def test_timeout_of_the_call_is_that_of_the_delivery(recorder):
    with transaction.atomic():
        say("quick", timeout=0.5)

    assert [send.timeout for send in recorder.sends] == [0.5]


def test_shortest_of_several_timeouts_counts(recorder):
    with transaction.atomic():
        say("patient", timeout=60)
        say("quick", timeout=0.5)

    assert min(send.timeout for send in recorder.sends) == 0.5


def test_patient_message_does_not_lift_the_timeout_of_the_broker_for_its_neighbour(recorder):
    with transaction.atomic():
        say("by default within TIMEOUT")
        say("patient", timeout=60)

    [ours] = [send for send in recorder.sends if "by default within TIMEOUT" in send.bodies]
    assert ours.timeout is None or ours.timeout <= 5


def test_body_is_that_of_the_call(recorder):
    payload = {"state": "new"}
    headers = {"state": "new"}

    with transaction.atomic():
        say(payload, headers=headers)
        payload["state"] = headers["state"] = "changed"

    [message] = recorder.sends[0].messages
    assert message.decode() == {"state": "new"}
    assert message.headers == {"state": "new"}


def test_bad_payload_is_refused_at_the_call_and_rolls_back(recorder):
    with pytest.raises(InvalidMessage), transaction.atomic():
        Order.objects.create(number=1)
        say(float("nan"))

    assert not Order.objects.exists()
    assert recorder.bodies == []


@pytest.mark.parametrize("robust", [True, False])
def test_bad_payload_is_refused_at_the_call_however_robust(recorder, robust):
    with pytest.raises(InvalidMessage):
        say(Order(number=1), robust=robust)


def test_hundred_messages_of_a_transaction_are_in_the_queue_in_order(settings, rabbitmq):
    queue = rabbitmq.declare_queue()
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url()}}

    with transaction.atomic():
        ids = [publish_on_commit(number, queue) for number in range(100)]
    stored = rabbitmq.drain(queue)
    brokers.stop()
    rabbitmq.delete_queue(queue)

    assert [int(message.body) for message in stored] == list(range(100))
    assert [message.properties.message_id for message in stored] == ids


def test_rolled_back_messages_are_not_in_the_queue(settings, rabbitmq):
    queue = rabbitmq.declare_queue()
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url()}}

    with transaction.atomic():
        publish_on_commit("kept", queue)
        with pytest.raises(LookupError), transaction.atomic():
            publish_on_commit("dropped", queue)
            raise LookupError
    stored = rabbitmq.drain(queue)
    brokers.stop()
    rabbitmq.delete_queue(queue)

    assert [message.body for message in stored] == [b"kept"]


# Failures after the commit


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


# Requests


def order_view(request):
    Order.objects.create(number=1)
    say("ordered")
    if "fail" in request.GET:
        raise LookupError
    return HttpResponse("done")


async def async_order_view(request):
    def order():
        with transaction.atomic():
            Order.objects.create(number=1)
            say("from the ORM's thread")
            async_to_sync(apublish_on_commit)("from the async twin", "orders")
            return recorder_bodies()

    inside = await sync_to_async(order)()
    await apublish_on_commit("outside", "orders")
    return HttpResponse(",".join(inside))


def recorder_bodies():
    return brokers["default"].recorder.bodies


urlpatterns = [path("order/", order_view), path("async/", async_order_view)]


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


def test_atomic_request_publishes_after_the_view(recorder, atomic_requests):
    response = Client().get("/order/")

    assert response.status_code == 200
    assert Order.objects.count() == 1
    assert recorder.bodies == ["ordered"]


def test_failed_atomic_request_publishes_nothing(recorder, atomic_requests):
    response = Client(raise_request_exception=False).get("/order/", {"fail": "1"})

    assert response.status_code == 500
    assert not Order.objects.exists()
    assert recorder.bodies == []


def test_failed_delivery_does_not_turn_a_committed_request_into_an_error(recorder, atomic_requests):
    recorder.fail("ordered", unroutable())

    response = Client().get("/order/")

    assert response.status_code == 200
    assert Order.objects.count() == 1


def test_async_view_publishes_after_the_commit_of_the_orms_thread(recorder):
    response = async_to_sync(AsyncClient().get)("/async/")

    assert response.status_code == 200
    assert response.content == b""
    assert Order.objects.count() == 1
    assert recorder.bodies == ["from the ORM's thread", "from the async twin", "outside"]


def test_async_twin_waits_for_the_transaction_of_the_orms_thread(recorder):
    with transaction.atomic():
        message_id = async_to_sync(apublish_on_commit)("later", "orders")
        inside = recorder.bodies

    assert inside == []
    assert [message.message_id for message in recorder.sends[0].messages] == [message_id]


def test_async_twin_drops_the_message_on_rollback(recorder):
    with pytest.raises(LookupError), transaction.atomic():
        async_to_sync(apublish_on_commit)("dropped", "orders")
        raise LookupError

    assert recorder.bodies == []


def test_async_twin_publishes_at_once_outside_a_transaction(recorder):
    message_id = async_to_sync(apublish_on_commit)("now", "orders")

    assert [message.message_id for message in recorder.sends[0].messages] == [message_id]


def test_async_twin_is_as_robust(recorder, caplog, failed):
    recorder.fail("lost", unroutable())

    async_to_sync(apublish_on_commit)("lost", "orders")
    with pytest.raises(MessageUnroutable):
        async_to_sync(apublish_on_commit)("lost", "orders", robust=False)

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert [body for body, _ in failed] == ["lost", "lost"]


def test_async_twin_refuses_a_transaction_managed_by_hand(recorder):
    transaction.set_autocommit(False)
    try:
        with pytest.raises(TransactionManagementError, match=r"transaction\.atomic\(\)"):
            async_to_sync(apublish_on_commit)("never", "orders")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def test_async_twin_sees_only_the_transaction_of_its_own_thread(recorder):
    """asyncio.run() has the ORM in another thread than this one, with another connection."""
    with transaction.atomic():
        asyncio.run(_publish_and_close("now"))
        inside = recorder.bodies

    assert inside == ["now"]


async def _publish_and_close(body):
    await apublish_on_commit(body, "orders")
    await sync_to_async(connections.close_all)()


# TestCase: a transaction that never commits, whose callbacks tests count and run

in_testcase = pytest.mark.django_db(transaction=False)


@in_testcase
def test_testcase_never_publishes_by_itself(recorder):
    say("never")
    with transaction.atomic():
        say("never")

    assert recorder.bodies == []


@in_testcase
def test_testcase_counts_one_callback_for_each_message(recorder, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as callbacks:
        say("1")
        say("2")
        say("3", robust=False)

    assert len(callbacks) == 3
    assert all(isinstance(callback, Pending) for callback in callbacks)
    assert recorder.bodies == []


@in_testcase
def test_testcase_runs_the_callbacks(recorder, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        say("1")
        with transaction.atomic():
            say("2")
        with pytest.raises(LookupError), transaction.atomic():
            say("dropped")
            raise LookupError
        say("3")

    assert len(callbacks) == 3
    assert recorder.bodies == ["1", "2", "3"]


@in_testcase
def test_testcase_raises_what_a_fragile_message_raises(recorder, django_capture_on_commit_callbacks):
    recorder.fail("lost", unroutable())

    with pytest.raises(MessageUnroutable), django_capture_on_commit_callbacks(execute=True):
        say("lost", robust=False)


@in_testcase
def test_testcase_sends_nothing_of_a_capture_again(recorder, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        say("1")
    with django_capture_on_commit_callbacks(execute=True):
        say("2")

    assert recorder.bodies == ["1", "2"]
