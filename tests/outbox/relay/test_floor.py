"""Nothing is skipped that may still appear, and what is gone is not read again."""

import contextlib

import psycopg
import pytest
from django.db import connection

from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.relay import floor as floor_module
from tests.publishing.verbs import bodies

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

INSERT = """INSERT INTO faststream_outbox
(broker, state, ordering_key, message_id, exchange, routing_key, body, properties, created_at, attempts,
last_error) VALUES ('default', 0, %s, %s, '', 'orders', %s, %s, 0, 0, '') RETURNING id"""
PROPERTIES = (
    '{"correlation_id":"c","timestamp":{"~":"datetime","v":"2026-01-01T00:00:00+00:00"},'
    '"content_type":"application/json"}'
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(floor_module, "PROBE_EVERY", 0.0)
    monkeypatch.setattr(floor_module, "UNWRITTEN", 0.0)


@pytest.fixture
def transactions():
    """Return a function that opens a transaction on a connection of its own."""
    with contextlib.ExitStack() as stack:

        def begin():
            parameters = connection.get_connection_params()
            names = {"host", "port", "user", "dbname"}
            own = psycopg.connect(**{name: parameters[name] for name in names & parameters.keys()})
            stack.callback(own.close)
            return own

        yield begin


def put(own, body, key=""):
    return own.execute(INSERT, [key, str(body), str(body).encode(), PROPERTIES]).fetchone()[0]


def database_now():
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch from statement_timestamp())::float8")
        return cursor.fetchone()[0]


def relay(leader):
    """Relay all that is there, as the loop does."""
    while leader.relay().settled:
        leader.reader.floor.probe()


def test_id_that_becomes_visible_late_is_not_skipped(outbox, batches, transactions):
    """Two transactions are open; the first to take an id is the last to commit, and its key goes on."""
    leader = batches()
    first, second, third = transactions(), transactions(), transactions()
    early = put(first, 0, "a")
    put(second, 1, "b")
    second.commit()

    for _ in range(3):
        relay(leader)
        put(second, 1, "b")
        second.commit()
    relay(leader)
    assert leader.reader.floor.id < early

    first.commit()
    put(third, 2, "a")
    third.commit()
    relay(leader)

    assert [body for body in bodies(outbox.server) if body != 1] == [0, 2]
    assert not OutboxMessage.objects.exists()


def test_floor_rises_although_a_snapshot_is_held(outbox, batches, insert, transactions):
    leader = batches()
    held = transactions()
    held.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    held.execute("SELECT count(*) FROM faststream_outbox")

    for number in range(3):
        last = insert(number)
        relay(leader)
    insert(3)
    relay(leader)

    assert leader.reader.floor.id >= last


def test_floor_stays_below_what_is_left(outbox, batches, insert):
    leader = batches()
    insert("held", ordering_key="a", state=State.HOLDING)
    left = insert(0, ordering_key="a")

    for number in range(1, 4):
        insert(number)
        relay(leader)

    assert leader.reader.floor.id < left
    OutboxMessage.objects.filter(state=State.HOLDING).delete()
    relay(leader)
    relay(leader)
    assert bodies(outbox.server) == [1, 2, 3, 0]


def test_floor_of_the_moments_rises_and_skips_nothing(outbox, batches, insert):
    leader = batches()
    begin = database_now()

    for number in range(3):
        insert(number, state=State.WAITING, due=database_now())
        relay(leader)
    insert(3)
    relay(leader)

    assert begin < leader.reader.floor.due[State.WAITING] <= database_now()
    assert sorted(bodies(outbox.server)) == [0, 1, 2, 3]


def test_sequence_that_was_set_back_is_noticed(outbox, batches, insert):
    leader = batches()
    for number in range(5):
        insert(number)
        relay(leader)
    assert leader.reader.floor.id > 0

    with connection.cursor() as cursor:
        cursor.execute("ALTER SEQUENCE faststream_outbox_id_seq RESTART")
    insert("again")
    relay(leader)
    relay(leader)

    assert bodies(outbox.server)[-1] == "again"


def test_all_is_read_once_in_a_while(outbox, batches, insert, monkeypatch):
    leader = batches()
    for number in range(5):
        insert(number)
        relay(leader)
    assert leader.reader.floor.id > 0
    insert("by hand", id=1)
    relay(leader)
    assert OutboxMessage.objects.exists()

    monkeypatch.setattr(floor_module, "FORGOTTEN_EVERY", 0.0)
    relay(leader)

    assert not OutboxMessage.objects.exists()


def test_ids_of_a_sequence_with_a_cache_are_read_from_the_start(outbox, batches, insert):
    with connection.cursor() as cursor:
        cursor.execute("ALTER SEQUENCE faststream_outbox_id_seq CACHE 10")
    try:
        leader = batches()
        for number in range(3):
            insert(number)
            relay(leader)

        assert leader.reader.floor.id == 0
        assert bodies(outbox.server) == [0, 1, 2]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER SEQUENCE faststream_outbox_id_seq CACHE 1")
