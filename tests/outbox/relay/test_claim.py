"""What the relay reads is a range of an index, whatever is in front of it and whatever the statistics say."""

import json
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.relay.reading import Reader
from tests.outbox.crowds import FAR, analyze, fill

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine")]

COUNT, BATCH = 10_000, 100
BY_ID, BY_DUE = "faststream_outbox_by_id", "faststream_outbox_by_due"


@pytest.fixture(params=["empty", "fresh", "millions"])
def crowd(request):
    """Rows that are not to be sent, before and behind some that are; the statistics of before, or of now."""
    analyze(connection)
    fill(connection, COUNT, State.WAITING, due=FAR)
    fill(connection, COUNT, State.DEAD, due=0)
    fill(connection, BATCH, State.WAITING, due=0)
    fill(connection, BATCH, State.RETRYING, due=0, keys=5)
    fill(connection, COUNT, keys=100)
    fill(connection, COUNT, State.WAITING, due=FAR)
    if request.param == "fresh":
        analyze(connection)
    if request.param == "millions" and connection.vendor == "postgresql":
        with connection.cursor() as cursor:  # of rows, as it seems, about which nothing is known
            cursor.execute("UPDATE pg_class SET relpages=1, reltuples=250 WHERE relname='faststream_outbox'")
    yield
    connection.close()  # a changed setting of the session


def test_reading_takes_the_index_of_each_state(crowd, engine):
    reader = Reader("default", "default", BATCH)
    reader.prepare()

    plan = plan_of(lambda: reader.read(["k1"]))

    assert plan.indexes == [BY_ID, BY_DUE, BY_DUE]
    assert not plan.faults


def test_question_for_blocked_keys_takes_the_index_of_the_state(crowd, engine):
    reader = Reader("default", "default", BATCH)

    plan = plan_of(lambda: reader.blocked([f"k{number}" for number in range(100)]))

    assert set(plan.indexes) == {BY_DUE}
    assert not plan.faults


@pytest.mark.postgresql
@pytest.mark.parametrize("ready", [0, COUNT])
def test_reading_looks_at_hardly_more_than_it_returns(crowd, ready):
    """An index condition may be met by few of the entries that a scan passes: only the pages tell."""
    if not ready:
        OutboxMessage.objects.filter(state=State.READY).delete()
        with connection.cursor() as cursor:
            cursor.execute("VACUUM faststream_outbox")
    reader = Reader("default", "default", BATCH)
    reader.prepare()

    returned = 2 * BATCH + min(ready, BATCH)
    assert pages_of(reader.read) < 60
    assert len(reader.read()) == returned


@pytest.mark.postgresql
def test_reading_begins_at_its_floor(crowd):
    """What is below was deleted, and may be in the index for as long as a snapshot is held."""
    reader = Reader("default", "default", BATCH)
    reader.prepare()
    last = OutboxMessage.objects.filter(state=State.READY).latest("id").pk

    assert pages_of(lambda: reader.read(after=last - BATCH)) < 60


@pytest.mark.engines("mariadb")
@pytest.mark.parametrize("ready", [0, COUNT])
def test_reading_touches_hardly_more_rows_than_it_returns(crowd, ready):
    if not ready:
        OutboxMessage.objects.filter(state=State.READY).delete()
    reader = Reader("default", "default", BATCH)

    with connection.cursor() as cursor:
        cursor.execute("FLUSH STATUS")
    rows = reader.read()
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        touched = sum(int(value) for _, value in cursor.fetchall())

    assert len(rows) == 2 * BATCH + min(ready, BATCH)
    assert touched <= 2 * len(rows) + 20  # the union reads each once more


class Plan:
    def __init__(self, indexes, faults):
        self.indexes = indexes
        self.faults = faults


def plan_of(ask):
    """Return which indexes the one statement takes, and what is slow in it."""
    with CaptureQueriesContext(connection) as captured:
        ask()
    (query,) = captured
    return {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}[connection.vendor](query["sql"])


def pages_of(ask):
    """Return how many pages of tables and indexes the one statement looks at."""
    with CaptureQueriesContext(connection) as captured:
        ask()
    ((plan,),) = _explained(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {captured[0]['sql']}")
    root = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return root["Shared Hit Blocks"] + root["Shared Read Blocks"]


def _explained(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql.replace("%", "%%"), [])
        return cursor.fetchall()


def _postgresql(sql):
    ((plan,),) = _explained(f"EXPLAIN (FORMAT JSON) {sql}")
    nodes = list(_nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))
    faults = [node["Node Type"] for node in nodes if node["Node Type"] in ("Seq Scan", "Sort")]
    return Plan([node["Index Name"] for node in nodes if "Index Name" in node], faults)


def _nodes(node):
    yield node
    for each in node.get("Plans", ()):
        yield from _nodes(each)


def _mysql(sql):
    found = [(row[5 if len(row) == 10 else 6], row[-1] or "") for row in _explained(f"EXPLAIN {sql}")]
    faults = [extra for _, extra in found if "filesort" in extra]
    return Plan([key for key, _ in found if key], faults)


def _sqlite(sql):
    steps = [step for *_, step in _explained(f"EXPLAIN QUERY PLAN {sql}")]
    faults = [step for step in steps if "TEMP B-TREE" in step or "SCAN faststream_outbox" in step]
    return Plan([index for step in steps for index in re.findall(r"USING INDEX (\w+)", step)], faults)
