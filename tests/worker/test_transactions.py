"""The work of a handler and its dependencies is committed before the ack, or not at all."""

import contextlib

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.transaction import TransactionManagementError, set_rollback
from faststream import BaseMiddleware, Depends
from faststream.exceptions import AckMessage, RejectMessage
from pydantic import ValidationError

from faststream_django.worker import transaction
from faststream_django.worker.options import handler_options
from tests.test_app.models import Order
from tests.worker.bench import Bench

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


@pytest.fixture
def bench():
    with contextlib.closing(Bench()) as bench:
        yield bench


def numbers(using="default"):
    return sorted(Order.objects.using(using).values_list("number", flat=True))


def order_of_a_dependency(using="default"):
    Order.objects.using(using).create(number=1)


def order_around(using="default"):
    Order.objects.using(using).create(number=1)
    yield
    Order.objects.using(using).create(number=3)


def test_handler_and_dependencies_are_committed_together_before_the_ack(bench):
    class Look(BaseMiddleware):
        async def consume_scope(self, call_next, message):
            result = await call_next(message)
            bench.seen.append(await bench.threads.run(numbers))
            return result

    broker = bench.broker(middlewares=[Look])

    @broker.subscriber("orders", dependencies=[Depends(order_around)])
    @transaction
    def handle(number: int):
        Order.objects.create(number=number)
        bench.seen.append(connections["default"].in_atomic_block)

    bench.handle(broker, "2")

    assert bench.seen == [True, [1, 2, 3]]


@pytest.mark.parametrize("error", [ValueError, RejectMessage, SystemExit])
def test_handler_that_raises_leaves_nothing(bench, error):
    broker = bench.broker()

    @broker.subscriber("orders", dependencies=[Depends(order_of_a_dependency)])
    @transaction
    def handle(number: int):
        Order.objects.create(number=number)
        raise error

    with pytest.raises(error) if error is not RejectMessage else contextlib.nullcontext():
        bench.handle(broker, "2")

    assert numbers() == []


def test_result_that_is_not_what_it_says_leaves_nothing(bench):
    """It would be refused after the commit else, and the message handled again."""
    broker = bench.broker()

    @broker.subscriber("orders")
    @transaction
    def handle(number: int) -> int:
        Order.objects.create(number=number)
        return "many"

    with pytest.raises(ValidationError):
        bench.handle(broker, "2")

    assert numbers() == []


def test_ack_commits(bench):
    """The message is not handled again: what was rolled back would be lost."""
    broker = bench.broker()

    @broker.subscriber("orders")
    @transaction
    def handle(number: int):
        Order.objects.create(number=number)
        raise AckMessage

    bench.handle(broker, "2")

    assert numbers() == [2]


def test_work_that_cannot_be_committed_fails_the_message(bench):
    """Django rolls back in silence, and the message would be acknowledged for nothing."""
    broker = bench.broker()

    @broker.subscriber("orders")
    @transaction
    def handle(number: int):
        Order.objects.create(number=number)
        set_rollback(True)  # as Django does when an error leaves an atomic block that is not the outermost

    with pytest.raises(TransactionManagementError, match="cannot be committed"):
        bench.handle(broker, "2")

    assert numbers() == []


def test_each_database_has_its_transaction(bench):
    broker = bench.broker()

    @broker.subscriber("orders")
    @transaction()
    @transaction(using="other")
    def handle(number: int):
        for using in ("default", "other"):
            Order.objects.using(using).create(number=number)
        if number == 2:
            raise ValueError("sold out")

    bench.handle(broker, "1")
    with pytest.raises(ValueError, match="sold out"):
        bench.handle(broker, "2")

    assert [numbers(), numbers("other")] == [[1], [1]]


def test_transaction_may_stand_above_the_subscriber(bench):
    broker = bench.broker()

    @transaction
    @broker.subscriber("orders")
    def handle(number: int):
        bench.seen.append(connections["default"].in_atomic_block)

    assert bench.handle(broker, "1") == [True]


def test_first_decorator_is_the_outermost_scope():
    @transaction
    @transaction(using="other")
    def handle(body): ...

    assert [scope.using for scope in handler_options(handle).scopes] == ["default", "other"]


def test_who_calls_the_function_gets_the_function():
    @transaction
    def handle(number):
        return number, connections["default"].in_atomic_block

    assert handle(7) == (7, False)


def test_async_handler_is_refused():
    with pytest.raises(TypeError, match=r"handle\(\) is async, .* Make it a def"):

        @transaction
        async def handle(body): ...


def test_unknown_database_is_refused():
    with pytest.raises(
        ImproperlyConfigured, match=r"@transaction\(using='orders'\): DATABASES has only default, other\."
    ):
        transaction(using="orders")


def test_alias_must_be_passed_by_name():
    with pytest.raises(TypeError, match=r"write @transaction\(using='other'\)"):
        transaction("other")
