"""Work that the database rolls back is never taken for done."""

import contextlib

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.transaction import TransactionManagementError

from faststream_django.worker.rollbacks import no_silent_rollback
from tests.engines import skip_database_in_memory
from tests.test_app.models import Order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine")]


@contextlib.contextmanager
def block():
    with transaction.atomic(), no_silent_rollback(connection):
        Order.objects.create(number=1)
        yield


def refused(reason):
    return pytest.raises(TransactionManagementError, match=f"'default' cannot be committed: .*{reason}")


def ask(sql):
    """Have a statement fail, and take no notice."""
    with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute(sql)


def test_work_that_is_committed_raises_nothing():
    with block():
        pass

    assert Order.objects.count() == 1


def test_error_of_the_handler_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError), block():
        raise ZeroDivisionError

    assert Order.objects.count() == 0


def test_connection_that_was_closed_is_an_error():
    skip_database_in_memory()

    with (
        refused("the connection was closed"),
        block(),
    ):
        connection.close()

    assert Order.objects.count() == 0


def test_rollback_that_was_asked_for_is_an_error():
    with refused("it was marked for rollback"), block():
        transaction.set_rollback(True)


@pytest.mark.engines("postgresql")
def test_error_that_was_caught_is_an_error():
    with refused("an error was caught in the transaction"), block():
        ask("SELECT 1 / 0")

    assert Order.objects.count() == 0


def test_error_that_was_caught_around_a_block_of_its_own_is_none():
    with block(), contextlib.suppress(DatabaseError, IntegrityError), transaction.atomic():
        order = Order.objects.get()
        Order.objects.create(pk=order.pk, number=2)

    assert Order.objects.get().number == 1


@pytest.mark.engines("sqlite")
def test_rollback_of_sqlite_is_an_error():
    with refused("SQLite has rolled it back"), block():
        connection.connection.rollback()  # as a full disk does


@pytest.mark.engines("mariadb")
def test_deadlock_that_was_caught_is_an_error():
    """The server has rolled back everything, and what follows would be committed alone."""
    with refused("a deadlock was caught"), block():
        ask("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213")

    assert Order.objects.count() == 0
