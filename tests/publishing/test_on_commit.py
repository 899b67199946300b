"""publish_on_commit() in every situation that a transaction can be in, on a real database."""

import pytest
from django.db import IntegrityError, connections, transaction
from django.db.transaction import TransactionManagementError

import faststream_django.backends.rabbit  # noqa: F401 - takes longer than the timeouts below
from faststream_django import publish_on_commit
from faststream_django.exceptions import MessageUnroutable
from faststream_django.publishing.on_commit import Pending
from faststream_django.signals import message_published
from tests.test_app.models import Order

# A transaction that really commits and rolls back: the tests may not run inside one themselves.
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


@pytest.fixture(params=["memory", "outbox"])
def on_commit(request):
    return request.param


in_memory = pytest.mark.parametrize("on_commit", ["memory"])


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


@in_memory
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


@in_memory
def test_message_in_a_broken_transaction_is_dropped_with_it(recorder):
    with transaction.atomic():
        order = Order.objects.create(number=1)
        with pytest.raises(IntegrityError), transaction.atomic(savepoint=False):
            Order.objects.create(pk=order.pk, number=2)
        say("after the error")

    assert recorder.bodies == []


@in_memory
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


@in_memory
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
