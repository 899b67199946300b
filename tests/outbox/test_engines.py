"""What the SQL of the outbox rests on, on each engine."""

import time

import pytest
from django.db import connection, transaction

from faststream_django import publish_many_on_commit, publish_on_commit
from faststream_django.exceptions import OutboxNotReady
from faststream_django.outbox.engines import clock, later_of
from faststream_django.outbox.models import OutboxMessage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine")]

ZONES = {"postgresql": "SET TIME ZONE '{}'", "mariadb": "SET time_zone = '{}'"}
# The hour that New York, where the MariaDB of the tests is, has twice: 01:30 in summer time, and again.
TWICE = (1793511000.25, 1793514600.25)


def ask(sql, parameters=()):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", parameters)
        return cursor.fetchone()[0]


@pytest.mark.parametrize("zone", ["+00:00", "-08:00", "+05:30"])
def test_clock_is_that_of_the_epoch_in_every_time_zone(engine, zone):
    if engine in ZONES:
        with connection.cursor() as cursor:
            cursor.execute(ZONES[engine].format(zone))

    now = ask(clock(connection))
    connection.close()

    assert isinstance(now, float)
    assert abs(now - time.time()) < 600  # the zones are hours apart


@pytest.mark.parametrize("use_tz", [True, False])
def test_clock_heeds_neither_use_tz_nor_the_zone_of_the_project(outbox, settings, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "America/New_York"
    connection.close()

    publish_on_commit("x", "orders", ordering_key="a")

    created_at = OutboxMessage.objects.get().created_at
    assert created_at.utcoffset().total_seconds() == 0
    assert abs(created_at.timestamp() - time.time()) < 600


@pytest.mark.engines("mariadb")  # whose clock can be set for a session
@pytest.mark.parametrize("moment", TWICE)
def test_clock_goes_on_when_summer_time_ends(moment):
    with connection.cursor() as cursor:
        cursor.execute("SET timestamp = %s", [moment])

    now = ask(clock(connection))
    connection.close()

    assert now == moment


def test_clock_tells_milliseconds():
    first = now = ask(clock(connection))
    deadline = time.monotonic() + 5
    while not 0 < now - first < 0.5 and time.monotonic() < deadline:
        first, now = now, ask(clock(connection))

    assert 0 < now - first < 0.5


def test_clock_is_the_same_throughout_a_statement():
    assert ask(f"count(DISTINCT {clock(connection)}) FROM (SELECT 1 AS a UNION ALL SELECT 2) AS two") == 1


def test_later_of_two_is_the_greater_number():
    first, second = 1793511000.123456, 1793511000.123457

    for pair in ((first, second), (second, first)):
        assert float(ask(later_of(connection, "%s", "%s"), pair)) == second


def test_unknown_engine_is_refused(monkeypatch):
    monkeypatch.setattr(connection, "vendor", "oracle")

    with pytest.raises(OutboxNotReady, match=r"'default' \(oracle\): use PostgreSQL"):
        clock(connection)


@pytest.mark.parametrize("count", [1, 3, 1200])
def test_each_message_knows_its_row(outbox, monkeypatch, engine, count):
    assert_rows_are_known(monkeypatch, engine, count)


@pytest.mark.engines("mariadb", "sqlite")  # in place of MySQL, and of SQLite before 3.35
@pytest.mark.parametrize("count", [1, 3, 1200])
def test_each_message_knows_its_row_without_returning(outbox, monkeypatch, engine, count):
    monkeypatch.setattr("faststream_django.outbox.engines.has_returning", lambda connection: False)

    assert_rows_are_known(monkeypatch, engine, count)


def assert_rows_are_known(monkeypatch, engine, count):
    stored = []
    monkeypatch.setattr(
        "faststream_django.outbox.writing.defer", lambda each, *a, **k: stored.append(each) or True
    )
    if engine == "mariadb":
        with connection.cursor() as cursor:
            cursor.execute("SET auto_increment_increment = 7")

    with transaction.atomic():
        publish_many_on_commit(range(count), "orders")
    connection.close()

    rows = dict(OutboxMessage.objects.values_list("id", "message_id"))
    assert {each.row_id: each.message.message_id for each in stored} == rows
    assert [rows[row_id] for row_id in sorted(rows)] == [each.message.message_id for each in stored]


def test_rows_of_a_list_come_in_statements_of_a_bounded_size(outbox, engine):
    """MariaDB takes 16 MB at a time by default."""
    bodies = [b"\x00" * 1_000_000] * 12

    with transaction.atomic():
        publish_many_on_commit(bodies, "orders", ordering_key="a")

    assert OutboxMessage.objects.count() == len(bodies)
