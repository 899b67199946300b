"""A process has one database connection for each thread of handlers, and one for all async ones."""

import contextlib
import threading

import psycopg
import pytest
from django.db import connections

from tests.outbox.waiting import SOON
from tests.test_app.models import Order
from tests.worker.bench import Bench

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

QUEUES = [f"queue-{number}" for number in range(8)]
POOL = {"pool": {"min_size": 2, "max_size": 20, "timeout": 30}}


@pytest.fixture
def configure(monkeypatch):
    """Set the options of connections that are made from now on; they can be told from those of the test."""

    def set_to(max_age, options):
        entry = connections.settings["default"]
        options = {**entry["OPTIONS"], "application_name": "handlers", **options}
        monkeypatch.setitem(
            connections.settings, "default", {**entry, "CONN_MAX_AGE": max_age, "OPTIONS": options}
        )

    yield set_to
    pools = connections["default"]._connection_pools  # of the class
    for alias in list(pools):
        pools.pop(alias).close()


@pytest.mark.parametrize(
    ("max_age", "options"), [(0, {}), (60, {}), (None, {}), (0, POOL)], ids=["0", "60", "None", "pool"]
)
def test_forty_slow_handlers_on_eight_queues_have_eleven_connections(configure, postgresql, max_age, options):
    """FastStream's own threads are 40, and each had a connection."""
    configure(max_age, options)
    handled = threading.Semaphore(0)
    counts = []

    def count():
        with psycopg.connect(postgresql.url(), autocommit=True) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'handlers'"
            return connection.execute(query).fetchone()[0]

    def slow(body):
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.2)")
        Order.objects.create(number=1)
        handled.release()

    async def asynchronous(body):
        await Order.objects.acreate(number=1)
        handled.release()

    def watch():
        for _ in range(40 + 10):
            assert handled.acquire(timeout=SOON)
            counts.append(count())

    with contextlib.closing(Bench(concurrency=10)) as bench:
        broker = bench.broker()
        for queue in QUEUES:
            broker.subscriber(queue)(slow)
        broker.subscriber("async")(asynchronous)

        bench.handle_at_once(broker, [*QUEUES * 5, *["async"] * 10], watch)

    assert Order.objects.count() == 50
    assert max(counts) <= 11, counts
    if not options:
        assert max(counts) >= 10, counts
