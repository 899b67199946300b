"""Django's connections in the threads of handlers: as in a server, and never more than threads."""

import asyncio
import contextlib

import pytest
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.transaction import TransactionManagementError

from faststream_django.worker import database
from faststream_django.worker.threads import LINGER, HandlerThreads
from tests.outbox.waiting import SOON, wait_until
from tests.test_app.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]
postgresql = pytest.mark.postgresql


@pytest.fixture
def conn_max_age(monkeypatch):
    """Set CONN_MAX_AGE for connections that are made from now on."""

    def set_to(seconds, **options):
        entry = connections.settings["default"]
        monkeypatch.setitem(connections.settings, "default", {**entry, "CONN_MAX_AGE": seconds, **options})

    return set_to


@pytest.fixture
def run():
    """Run functions in one thread, one after the other, on a loop that goes on meanwhile."""
    with contextlib.ExitStack() as stack:

        def make(linger=LINGER):
            runner = stack.enter_context(asyncio.Runner())
            pool = HandlerThreads(1, linger=linger)
            stack.callback(end, pool)
            return lambda function, *args: runner.run(pool.run(function, *args))

        yield make


def end(pool):
    threads = list(pool._threads)
    pool.stop()
    for thread in threads:
        thread.join(SOON)


def use():
    """Use the database; return the connection of Django's, and that of the driver."""
    Order.objects.count()
    return connections["default"], connections["default"].connection


def test_connection_of_max_age_zero_is_kept_for_the_next_message_and_closed_when_there_is_none(
    conn_max_age, run
):
    """Django closes it after each request; to connect for each message costs three quarters of the speed."""
    conn_max_age(0)
    call = run()

    connection, first = call(use)
    _, second = call(use)

    assert first is second
    wait_until(lambda: connection.connection is None, "the end of an unused connection")


def test_connection_of_max_age_zero_is_not_kept_for_ever(conn_max_age, run, monkeypatch):
    """Who sets it to 0 expects that a failover is noticed."""
    monkeypatch.setattr(database, "KEPT_AT_MOST", 0.0)
    conn_max_age(0)
    call = run()

    connection, first = call(use)
    closed = connection.connection is None
    _, second = call(use)

    assert closed
    assert first is not second


def test_connection_of_max_age_zero_may_be_closed_at_once(conn_max_age, run):
    """The handlers of a test's embedded broker must not hold a database that is about to be dropped."""
    conn_max_age(0)

    connection, _ = run(linger=0)(use)

    assert connection.connection is None


def test_connection_grows_too_old_while_its_thread_waits(conn_max_age, run):
    conn_max_age(0.3)

    connection, _ = run()(use)

    assert connection.connection is not None
    wait_until(lambda: connection.connection is None, "the end of an old connection")


def test_connection_without_a_maximum_age_stays(conn_max_age, run):
    conn_max_age(None)
    call = run()

    assert call(use) == call(use)


def test_connections_end_with_their_thread(conn_max_age):
    conn_max_age(None)
    pool = HandlerThreads(1)

    connection, _ = asyncio.run(pool.run(use))
    end(pool)

    assert connection.connection is None


def test_transaction_that_is_left_open_fails_the_message_and_does_not_swallow_the_next_ones(
    conn_max_age, run
):
    """All that the thread did from now on would be rolled back one day."""
    conn_max_age(None)
    call = run()

    def leave_open():
        transaction.atomic().__enter__()
        Order.objects.create(number=1)

    with pytest.raises(TransactionManagementError, match="left open on the database 'default'"):
        call(leave_open)
    call(lambda: Order.objects.create(number=2))

    assert [order.number for order in Order.objects.all()] == [2]


@postgresql
@pytest.mark.parametrize("max_age", [0, 60, None])
@pytest.mark.parametrize("moment", ["while idle", "in a query", "in a transaction"])
def test_terminated_connection_fails_one_message(conn_max_age, run, postgresql, max_age, moment):
    conn_max_age(max_age)
    call = run()

    def terminate():
        postgresql.execute(f"SELECT pg_terminate_backend({pid()})")

    def handle():
        if moment == "in a transaction":
            with transaction.atomic():
                Order.objects.create(number=1)
                terminate()
                Order.objects.create(number=2)
        elif moment == "in a query":
            terminate()
        Order.objects.create(number=3)

    backend = call(pid)
    if moment == "while idle":
        postgresql.execute(f"SELECT pg_terminate_backend({backend})")
    with pytest.raises((OperationalError, InterfaceError)):
        call(handle)
    call(lambda: Order.objects.create(number=4))

    assert [order.number for order in Order.objects.all()] == [4]


def pid():
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@postgresql
def test_error_while_a_connection_is_closed_fails_no_message(conn_max_age, run, caplog, monkeypatch):
    conn_max_age(60)
    call = run()

    def break_it():
        used = use()
        monkeypatch.setattr(connections["default"], "is_usable", lambda: 1 / 0)
        connections["default"].errors_occurred = True
        return used

    connection, first = call(break_it)
    _, second = call(use)

    assert "state=abandoned" in caplog.text
    assert first is not second
    assert connection.connection is None


@postgresql
def test_connection_of_a_pool_goes_back_to_it_after_each_message(conn_max_age, run):
    entry = connections.settings["default"]
    conn_max_age(0, OPTIONS={**entry["OPTIONS"], "pool": {"min_size": 1, "max_size": 1, "timeout": 5}})

    connection, _ = run()(use)
    pool = connection.pool

    try:
        assert connection.connection is None
        assert pool.get_stats()["pool_available"] == 1
    finally:
        connection.close_pool()
