"""A message is handled once, whatever happens to its handler and beside it."""

import functools
import threading

import pytest
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError
from faststream.exceptions import AckMessage

from faststream_django.exceptions import InboxNotReady, MessageHasNoId
from faststream_django.inbox import idempotent, recording
from faststream_django.inbox.models import HandledMessage
from tests.engines import skip_database_in_memory
from tests.inbox.deliveries import Worker, handle, message
from tests.inbox.waiting import wait_until_blocked
from tests.test_app.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


class Failed(Exception):
    """What a handler raises."""


@idempotent
def place_order(message):
    Order.objects.create(number=1)


@idempotent
def fail(message):
    Order.objects.create(number=1)
    raise Failed


def test_message_is_handled_once():
    assert [handle(place_order, message("m-1")) for _ in range(3)] == [True, False, False]
    assert handle(place_order, message("m-2"))

    assert Order.objects.count() == HandledMessage.objects.count() == 2


def test_thousand_redeliveries_have_one_effect_each():
    messages = [message(f"m-{number}") for number in range(10)]

    ran = [handle(place_order, each) for _ in range(100) for each in messages]

    assert ran == [True] * 10 + [False] * 990
    assert Order.objects.count() == 10


def test_message_whose_handler_failed_is_handled_again():
    attempts = []

    @idempotent
    def fail_twice(message):
        attempts.append(message)
        Order.objects.create(number=1)
        if len(attempts) < 3:
            raise Failed

    for _ in range(2):
        with pytest.raises(Failed):
            handle(fail_twice, message())
        assert HandledMessage.objects.count() == Order.objects.count() == 0

    assert handle(fail_twice, message())
    assert not handle(fail_twice, message())
    assert Order.objects.count() == 1


def test_handler_that_has_its_message_acked_is_committed():
    """The message does not come again, so nothing of it may be rolled back."""

    @idempotent
    def handler(message):
        Order.objects.create(number=1)
        raise AckMessage

    handle(handler, message())

    assert Order.objects.count() == HandledMessage.objects.count() == 1


def test_each_queue_and_each_handler_is_a_consumer_of_its_own():
    @idempotent
    def bill(message):
        Order.objects.create(number=2)

    assert handle(place_order, message(), "orders")
    assert handle(place_order, message(), "audit")
    assert handle(place_order, message(), "orders", prefix="eu.")
    assert handle(bill, message(), "orders")
    assert not handle(place_order, message(), "audit")


def test_consumer_with_a_name_is_the_same_in_each_queue_and_handler():
    first = idempotent(consumer="billing")(lambda message: None)
    second = idempotent(consumer="billing")(lambda message: None)

    assert handle(first, message(), "orders")
    assert not handle(second, message(), "orders.v2")


def test_key_decides_in_place_of_the_id():
    handler = idempotent(key="order", consumer="a")(lambda message: None)

    assert handle(handler, message("m-1", headers={"order": 7}))
    assert not handle(handler, message("m-2", headers={"order": 7}))
    assert handle(handler, message("m-1", headers={"order": 8}))


def test_message_without_an_id_is_refused_before_anything_is_done():
    with pytest.raises(MessageHasNoId):
        handle(place_order, message(None))

    assert Order.objects.count() == HandledMessage.objects.count() == 0


def test_record_is_in_the_database_that_is_named():
    @idempotent(using="other")
    def place_there(message):
        Order.objects.using("other").create(number=1)

    assert handle(place_there, message())
    assert not handle(place_there, message())

    assert HandledMessage.objects.using("other").count() == 1
    assert HandledMessage.objects.count() == 0


def test_failure_within_a_test_case_is_rolled_back_too():
    """A TestCase runs each test in a transaction."""
    with transaction.atomic():
        with pytest.raises(Failed):
            handle(fail, message())
        assert Order.objects.count() == HandledMessage.objects.count() == 0

        assert handle(place_order, message())
        assert not handle(place_order, message())


def test_handler_runs_in_a_transaction_that_begins_here(django_assert_num_queries):
    handle(place_order, message())

    with django_assert_num_queries(2 + 2):  # with the BEGIN and COMMIT
        assert handle(place_order, message("m-2"))


def test_callbacks_run_after_the_commit():
    seen = []

    @idempotent
    def handler(message):
        transaction.on_commit(lambda: seen.append(connection.in_atomic_block))

    handle(handler, message())

    assert seen == [False]


class Pair:
    """A handler that waits where the test says so, for a message that two workers have at once."""

    def __init__(self, *, is_failing):
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        self.is_failing = is_failing

    @functools.cached_property
    def handler(self):
        @idempotent
        def handler(message):
            Order.objects.create(number=1)
            if not self.has_begun.is_set():
                self.has_begun.set()
                assert self.may_end.wait(30)
                if self.is_failing:
                    raise Failed

        return handler


@pytest.mark.parametrize("is_failing", [False, True], ids=["committed", "rolled-back"])
def test_second_worker_waits_for_the_first(is_failing):
    pair = Pair(is_failing=is_failing)

    first = Worker(pair.handler, message())
    assert pair.has_begun.wait(30)
    others = [Worker(pair.handler, message()) for _ in range(4)]
    wait_until_blocked(4)
    pair.may_end.set()

    outcomes = [each.outcome() for each in others]
    if is_failing:
        assert isinstance(first.outcome(), Failed)
        assert sorted(outcomes) == [False, False, False, True]
    else:
        assert first.outcome() is True
        assert outcomes == [False] * 4
    assert Order.objects.count() == HandledMessage.objects.count() == 1


LEVELS = {"postgresql": (2, 3), "mysql": ("repeatable read", "serializable")}


@pytest.mark.engines("postgresql", "mariadb")
@pytest.mark.parametrize("strictness", [0, 1], ids=["repeatable-read", "serializable"])
@pytest.mark.parametrize("is_failing", [False, True], ids=["committed", "rolled-back"])
def test_stricter_isolation_has_the_same_outcome(monkeypatch, strictness, is_failing):
    options = connection.settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "isolation_level", LEVELS[connection.vendor][strictness])
    pair = Pair(is_failing=is_failing)

    first = Worker(pair.handler, message())
    assert pair.has_begun.wait(30)
    second = Worker(pair.handler, message())
    wait_until_blocked()
    pair.may_end.set()

    assert second.outcome() is is_failing
    assert isinstance(first.outcome(), Failed) is is_failing
    assert Order.objects.count() == HandledMessage.objects.count() == 1


@pytest.mark.engines("sqlite")
def test_deferred_transactions_of_sqlite_have_the_same_outcome(monkeypatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", None)

    test_second_worker_waits_for_the_first(is_failing=False)


def test_transaction_that_is_lost_leaves_no_record():
    skip_database_in_memory()

    @idempotent
    def lose_connection(message):
        Order.objects.create(number=1)
        connection.close()

    with pytest.raises(TransactionManagementError, match="the connection was closed"):
        handle(lose_connection, message())

    assert Order.objects.count() == HandledMessage.objects.count() == 0


def test_message_that_comes_again_is_told(caplog):
    handle(place_order, message())

    with caplog.at_level("INFO", logger="faststream_django.inbox"):
        handle(place_order, message(body=b"secret"))

    (text,) = caplog.messages
    assert text == f"consumer='orders {__name__}.place_order' message_id=m-1 state=handled"


@pytest.fixture
def unknown_databases(monkeypatch):
    """No database was seen yet."""
    monkeypatch.setattr(recording, "_statements", {})


def test_missing_table_is_an_error_before_a_statement_fails(unknown_databases, monkeypatch):
    monkeypatch.setattr(HandledMessage._meta, "db_table", "not_migrated")

    with transaction.atomic():
        with pytest.raises(InboxNotReady, match="migrate faststream_inbox --database default"):
            handle(place_order, message())
        assert Order.objects.count() == 0  # the transaction still works


def test_missing_app_is_an_error(unknown_databases, settings):
    settings.INSTALLED_APPS = [each for each in settings.INSTALLED_APPS if not each.endswith(".inbox")]

    with pytest.raises(InboxNotReady, match="add it to INSTALLED_APPS"):
        handle(place_order, message())


def test_unknown_engine_is_an_error(unknown_databases, monkeypatch):
    monkeypatch.setattr(connections["other"], "vendor", "oracle")
    handler = idempotent(using="other", consumer="a")(lambda message: None)

    with pytest.raises(InboxNotReady, match=r"'other' \(oracle\): use PostgreSQL"):
        handle(handler, message())


def test_database_is_asked_for_the_table_once(unknown_databases, django_assert_num_queries):
    handle(place_order, message())

    with django_assert_num_queries(3):
        assert not handle(place_order, message())
