"""The claim reads its range also where PostgreSQL has no statistics, or wrong ones; see test_claim.py."""

import pytest
from django.db import connection

from faststream_django.outbox.models import State

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

ROWS = """INSERT INTO faststream_outbox
(broker, state, due, ordering_key, message_id, exchange, routing_key, body, properties, created_at, attempts,
last_error) SELECT 'default', %s, %s, '', 'm', '', 'orders', '', '{}', 0, 0, '' FROM generate_series(1, %s)"""


def execute(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else None


@pytest.fixture(autouse=True)
def table():
    """A table that was never analysed, nor will be unless the test does it."""
    execute("CREATE TEMPORARY TABLE faststream_outbox (LIKE faststream_outbox INCLUDING ALL)")
    yield
    connection.close()  # with the table


def buffers(leader):
    """Return the pages that a claim touches, and the indexes that it uses."""
    sql, parameters = leader.reader._statement(connection, (), leader.reader.floor.id)
    ((plan,),) = execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}", *parameters)
    nodes, waiting = [], [plan[0]["Plan"]]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        waiting += node.get("Plans", [])
    top = plan[0]["Plan"]
    pages = sum(top[f"{kind} {what} Blocks"] for kind in ("Shared", "Local") for what in ("Hit", "Read"))
    return pages, sorted(node["Index Name"] for node in nodes if "Index Name" in node)


def ready(count):
    execute(ROWS, State.READY, None, count)


def scheduled(count):
    execute(ROWS, State.WAITING, 4e9, count)


def dead(count):
    execute(ROWS, State.DEAD, 1.0, count)


def analyse():
    execute("ANALYZE faststream_outbox")


def drain():
    execute("DELETE FROM faststream_outbox")
    execute("VACUUM faststream_outbox")


@pytest.mark.parametrize(
    "fill",
    [
        lambda: ready(10_000),
        lambda: ready(60_000),
        lambda: (scheduled(60_000), ready(10_000)),
        lambda: (scheduled(60_000), ready(10_000), analyse()),
        lambda: (dead(60_000), ready(10_000)),
        lambda: (dead(60_000), analyse(), scheduled(60_000), ready(10_000)),
        lambda: (
            ready(60_000),
            analyse(),
            execute("TRUNCATE faststream_outbox"),
            scheduled(60_000),
            ready(500),
        ),
        lambda: (analyse(), ready(60_000)),
        lambda: (ready(60_000), analyse(), scheduled(60_000), dead(60_000)),
    ],
    ids=[
        "few",
        "many",
        "scheduled in front",
        "scheduled in front, analysed",
        "dead in front",
        "statistics of dead ones",
        "statistics of ready ones",
        "statistics of an empty table",
        "others behind",
    ],
)
def test_claim_reads_its_rows_and_hardly_more(outbox, batches, fill):
    leader = batches()
    fill()

    pages, indexes = buffers(leader)

    assert pages < 200  # 500 rows of this size are on 9 pages; all of the smallest case on 170 and more
    assert len(indexes) == 3
