import asyncio

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

import faststream_django.backends.rabbit  # noqa: F401 - takes longer than the timeouts below
from faststream_django import apublish_on_commit, brokers, publish_on_commit
from faststream_django.exceptions import MessageUnroutable
from tests.test_app.models import Order

# A transaction that really commits and rolls back: the tests may not run inside one themselves.
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls(__name__),
]


@pytest.fixture(params=["memory", "outbox"])
def on_commit(request):
    return request.param


in_memory = pytest.mark.parametrize("on_commit", ["memory"])


def say(body, **options):
    return publish_on_commit(body, "orders", **options)


def unroutable():
    return MessageUnroutable("nobody takes it", message_id="m", broker="default")


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


@in_memory
def test_async_twin_is_as_robust(recorder, caplog, failed):
    recorder.fail("lost", unroutable())

    async_to_sync(apublish_on_commit)("lost", "orders")
    with pytest.raises(MessageUnroutable):
        async_to_sync(apublish_on_commit)("lost", "orders", robust=False)

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert [body for body, _ in failed] == ["lost", "lost"]


@in_memory
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
