"""A database that ends its connections costs attempts, no message and no worker."""

import pytest
from django.db import connections
from faststream import Depends
from faststream.rabbit import RabbitRouter

from faststream_django.worker import transaction
from tests.test_app.models import Order
from tests.worker.sites import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

COUNT, TIMES = 150, 20


@pytest.mark.parametrize("max_age", [0, 60])
def test_connections_that_end_twenty_times_cost_no_message(site, postgresql, monkeypatch, max_age):
    entry = connections.settings["default"]
    options = {**entry["OPTIONS"], "application_name": "handlers"}
    monkeypatch.setitem(
        connections.settings, "default", {**entry, "CONN_MAX_AGE": max_age, "OPTIONS": options}
    )
    site.configure(WORKER={"ATTEMPTS": 100, "BACKOFF": (0.02, 0.1)})
    router = RabbitRouter()
    queues = [f"{site.name}-{kind}" for kind in ("plain", "transaction", "dependency", "async")]

    def last():
        return Order.objects.order_by("-id").first()

    async def alast():
        return await Order.objects.order_by("-id").afirst()

    @router.subscriber(queues[0])
    def plain(number: int):
        Order.objects.create(number=number, note=queues[0])

    @router.subscriber(queues[1], dependencies=[Depends(last)])
    @transaction
    def within(number: int):
        Order.objects.create(number=number, note=queues[1])

    @router.subscriber(queues[2], dependencies=[Depends(last), Depends(alast)])
    def after(number: int):
        Order.objects.create(number=number, note=queues[2])

    @router.subscriber(queues[3], dependencies=[Depends(last), Depends(alast)])
    async def later(number: int):
        await Order.objects.acreate(number=number, note=queues[3])

    def kept():
        return Order.objects.values("number", "note").distinct().count()

    site.consume(router)
    for number in range(COUNT):
        for queue in queues:
            site.publish(str(number).encode(), queue, content_type="application/json")
    for time in range(TIMES):
        eventually(lambda time=time: kept() >= time * COUNT * len(queues) / TIMES / 2)
        postgresql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'handlers'"
        )
    eventually(lambda: kept() == COUNT * len(queues))

    assert all(site.is_empty(f"{queue}.dlq") for queue in queues)
