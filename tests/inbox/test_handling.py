"""Idempotent handlers as a worker runs them: on RabbitMQ, and the same on the embedded broker."""

import threading

import pytest
from django.db import connection
from faststream import Depends
from faststream.rabbit import RabbitMessage, RabbitRouter

from faststream_django.inbox import idempotent
from faststream_django.inbox.models import HandledMessage
from faststream_django.worker.transactions import transaction
from tests.engines import skip_database_in_memory
from tests.test_app.models import Order
from tests.worker.conftest import site  # noqa: F401  a fixture
from tests.worker.sites import Calls, eventually

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

BOTH = [
    pytest.param(lambda handler: idempotent(transaction(handler)), id="idempotent-above"),
    pytest.param(lambda handler: transaction(idempotent(handler)), id="idempotent-below"),
]


@pytest.fixture
def orders(site):  # noqa: F811
    """A queue whose messages are orders, and the calls of its handler."""
    skip_database_in_memory()
    site.configure(WORKER={"ATTEMPTS": 5, "BACKOFF": (0.05, 0.1)})
    site.declare(site.name)
    site.calls = Calls()
    return site


def place(number):
    Order.objects.create(number=number)


def publish(site, *message_ids, body=b"1"):  # noqa: F811
    for message_id in message_ids:
        site.publish(body, message_id=message_id, content_type="application/json")


@pytest.mark.usefixtures("engine")
def test_copies_of_a_message_have_one_effect(orders):
    router = RabbitRouter()

    @router.subscriber(orders.name)
    @idempotent
    def handle(body: int) -> None:
        place(body)
        orders.calls(body)

    orders.consume(router)
    publish(orders, *["m-1", "m-2"] * 25, body=b"7")
    publish(orders, "m-3", body=b"9")
    orders.calls.wait(3)

    eventually(lambda: orders.is_empty(orders.name))
    eventually(lambda: HandledMessage.objects.count() == 3)
    assert sorted(Order.objects.values_list("number", flat=True)) == [7, 7, 9]
    assert len(orders.calls.seen) == 3
    assert orders.is_empty(orders.dead_letters)


@pytest.mark.usefixtures("engine")
def test_attempt_after_a_failure_is_handled(orders):
    router = RabbitRouter()

    @router.subscriber(orders.name)
    @idempotent
    def handle(body: int) -> None:
        place(body)
        if orders.calls() < 4:
            raise OSError

    orders.consume(router)
    publish(orders, "m-1")
    orders.calls.wait(4)
    eventually(HandledMessage.objects.count)
    publish(orders, "m-1")

    eventually(lambda: orders.is_empty(orders.name))
    assert Order.objects.count() == 1
    assert len(orders.calls.seen) == 4


def test_message_without_an_id_is_a_dead_letter_at_once(orders, caplog):
    router = RabbitRouter()

    @router.subscriber(orders.name)
    @idempotent
    def handle(body: int) -> None:
        orders.calls(body)

    orders.consume(router)
    publish(orders, None)

    (dead,) = orders.wait_for(orders.dead_letters)
    assert dead.headers["faststream-reason"] == "invalid"
    assert dead.headers["faststream-attempts"] == 1
    assert "MessageHasNoId: A message has no message id" in dead.headers["faststream-error"]
    assert orders.calls.seen == []


def test_key_makes_messages_without_an_id_idempotent(orders):
    router = RabbitRouter()

    @router.subscriber(orders.name)
    @idempotent(key=lambda message: message.body, consumer="orders")
    def handle(body: int) -> None:
        orders.calls(body)

    orders.consume(router)
    publish(orders, None, None, body=b"1")
    publish(orders, None, body=b"2")
    orders.calls.wait(2)

    eventually(lambda: orders.is_empty(orders.name))
    eventually(lambda: HandledMessage.objects.count() == 2)
    assert sorted(orders.calls.seen) == [1, 2]


def test_dependencies_are_part_of_the_transaction(orders):
    router = RabbitRouter()

    def stock(message: RabbitMessage) -> int:
        place(1)
        orders.calls((connection.in_atomic_block, threading.get_ident()))
        return 1

    @router.subscriber(orders.name)
    @idempotent
    def handle(body: int, stock: int = Depends(stock)) -> None:
        if orders.calls((connection.in_atomic_block, threading.get_ident())) < 4:
            raise OSError

    orders.consume(router)
    publish(orders, "m-1")

    (first, second, *_) = orders.calls.wait(4)
    assert first[0] is second[0] is True
    assert first[1] == second[1]
    eventually(HandledMessage.objects.count)
    assert Order.objects.count() == 1


@pytest.mark.parametrize("decorate", BOTH)
def test_transaction_of_the_same_database_is_the_same_one(orders, decorate):
    router = RabbitRouter()

    @router.subscriber(orders.name)
    @decorate
    def handle(body: int) -> None:
        place(body)
        orders.calls(len(connection.savepoint_ids))
        if len(orders.calls.seen) == 1:
            raise OSError

    orders.consume(router)
    publish(orders, "m-1")
    orders.calls.wait(2)
    eventually(HandledMessage.objects.count)
    publish(orders, "m-1")

    eventually(lambda: orders.is_empty(orders.name))
    assert orders.calls.seen == [0, 0]
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    "decorate",
    [
        pytest.param(lambda handler: idempotent(transaction(using="other")(handler)), id="idempotent-above"),
        pytest.param(lambda handler: transaction(using="other")(idempotent(handler)), id="idempotent-below"),
    ],
)
def test_transaction_of_another_database_is_committed_first(orders, decorate):
    """If the process dies in between, the other effect is there twice, and not lost."""
    from django.db import transaction as transactions

    router = RabbitRouter()

    @router.subscriber(orders.name)
    @decorate
    def handle(body: int) -> None:
        for using in ("default", "other"):
            transactions.on_commit(lambda using=using: orders.calls(using), using=using)

    orders.consume(router)
    publish(orders, "m-1")

    assert orders.calls.wait(2) == ["other", "default"]
