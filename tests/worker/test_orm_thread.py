"""The ORM of async handlers runs in one thread, whose connections are cleaned when nobody needs them."""

import asyncio
import contextlib
import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.transaction import TransactionManagementError
from faststream import Depends

from tests.outbox.waiting import SOON, wait_until
from tests.test_app.models import Order
from tests.worker.bench import Bench

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine"),
]
postgresql = pytest.mark.postgresql


@pytest.fixture
def bench():
    with contextlib.closing(Bench()) as bench:
        yield bench


@pytest.fixture(params=["handler", "dependency", "dependency of a def"])
def add_subscriber(request, bench):
    """Have a queue handled by an async handler that awaits this, or by one that depends on it."""

    def add(broker, queue, work):
        if request.param == "handler":
            broker.subscriber(queue)(work)
        elif request.param == "dependency":

            @broker.subscriber(queue, dependencies=[Depends(work)])
            async def handle(body): ...
        else:

            @broker.subscriber(queue, dependencies=[Depends(work)])
            def handle(body): ...

    return add


def wrapper():
    """Use the database; return Django's connection."""
    Order.objects.count()
    return connections["default"]


def test_orm_of_handlers_and_dependencies_has_one_thread_of_its_own(bench, add_subscriber):
    broker = bench.broker()

    async def look(body):
        bench.seen.append(await sync_to_async(threading.current_thread)())

    for queue in ("one", "two"):
        add_subscriber(broker, queue, look)
        bench.handle(broker, "x", queue=queue)

    common = bench.runner.run(sync_to_async(threading.current_thread)())
    assert len(set(bench.seen)) == 1
    assert not {common, threading.current_thread(), *bench.threads._threads} & set(bench.seen)


def test_connection_that_is_used_up_is_closed_after_a_message(bench, add_subscriber):
    broker = bench.broker()

    async def work(body):
        bench.seen.append(await sync_to_async(wrapper)())

    add_subscriber(broker, "orders", work)

    [connection] = bench.handle(broker, "x")

    assert connection.connection is None


def test_connection_stays_while_another_handler_needs_it(bench):
    broker = bench.broker()
    busy, ended = asyncio.Event(), asyncio.Event()

    @broker.subscriber("slow")
    async def slow(body):
        connection = await sync_to_async(wrapper)()
        busy.set()
        await asyncio.wait_for(ended.wait(), SOON)
        bench.seen.append(connection.connection is not None)

    @broker.subscriber("quick")
    async def quick(body):
        await busy.wait()
        await sync_to_async(wrapper)()
        asyncio.get_running_loop().call_later(0.05, ended.set)

    bench.handle_at_once(broker, ["slow", "quick"])

    assert bench.seen == [True]


@postgresql
@pytest.mark.parametrize("is_busy", [False, True], ids=["alone", "beside another"])
def test_terminated_connection_fails_one_message(bench, add_subscriber, postgresql, is_busy):
    """Once it failed every message from then on, when the ORM was used in a dependency."""
    broker = bench.broker()
    ended = asyncio.Event()

    async def work(body):
        await Order.objects.acount()
        postgresql.execute(f"SELECT pg_terminate_backend({await sync_to_async(pid)()})")
        await Order.objects.acount()

    async def check(body):
        bench.seen.append(await Order.objects.acount())

    async def be_busy():
        await asyncio.wait_for(ended.wait(), SOON)

    add_subscriber(broker, "orders", work)
    add_subscriber(broker, "check", check)
    loop = bench.runner.get_loop()
    other = loop.create_task(bench.threads.orm_thread.around(be_busy)()) if is_busy else None

    with pytest.raises((OperationalError, InterfaceError)):
        bench.handle(broker, "x")
    bench.handle(broker, "x", queue="check")

    if other is not None:
        ended.set()
        loop.run_until_complete(other)
    assert bench.seen == [0]


def pid():
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def test_transaction_that_is_left_open_fails_the_message_and_swallows_no_other(bench, add_subscriber):
    broker = bench.broker()

    async def leave_open(body):
        await sync_to_async(transaction.atomic().__enter__)()
        await Order.objects.acreate(number=1)

    async def work(body):
        await Order.objects.acreate(number=2)

    add_subscriber(broker, "orders", leave_open)
    add_subscriber(broker, "next", work)

    with pytest.raises(TransactionManagementError, match="left open on the database 'default'"):
        bench.handle(broker, "x")
    bench.handle(broker, "x", queue="next")

    assert [order.number for order in Order.objects.all()] == [2]


def test_plain_dependency_cannot_hold_a_transaction_for_an_async_handler(bench):
    """It would be entered in one thread and left in another."""
    broker = bench.broker()

    def hold():
        with transaction.atomic():
            Order.objects.create(number=1)
            try:
                yield
            finally:
                bench.seen.append(threading.current_thread())

    @broker.subscriber("orders", dependencies=[Depends(hold)])
    async def handle(body): ...

    with pytest.raises(TransactionManagementError, match="A def dependency of an async handler cannot yield"):
        bench.handle(broker, "x")

    assert not Order.objects.exists()
    assert bench.seen == bench.threads._threads  # it has ended where it began


def test_connections_end_with_the_thread(bench):
    broker = bench.broker()

    @broker.subscriber("orders")
    async def handle(body):
        bench.seen.append(await sync_to_async(wrapper)())
        bench.threads.orm_thread.stop()

    [connection] = bench.handle(broker, "x")

    wait_until(lambda: connection.connection is None, "the end of the connection")
