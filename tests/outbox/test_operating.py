"""What operators ask and do, on tables of any size."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from faststream_django.outbox import operating
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.operating import (
    discard,
    outbox_aliases,
    prunable,
    retry,
    rows_named,
    stats,
)
from faststream_django.outbox.selecting import DEAD, Selection, database_now
from tests.outbox.stored import lead, store

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]

HOUR = 3600.0


@pytest.fixture
def woken(monkeypatch):
    """The relays that were told to look."""
    calls = []
    monkeypatch.setattr(operating, "notify", lambda using, aliases: calls.append((using, list(aliases))))
    return calls


def test_stats_count_in_three_words(outbox):
    for state in State:
        store(state=state, due_in=60)
    lead(holder="web-1:42", seen=2)

    found = stats("default")

    assert list(found) == ["default"]
    assert {word: found["default"][word] for word in ("ready", "waiting", "dead")} == {
        "ready": 1,
        "waiting": 2,
        "dead": 2,
    }
    assert found["default"]["leader"] == "web-1:42"
    assert 1 < found["default"]["lease_age_seconds"] < 60
    assert stats("other")["default"]["ready"] == 0


def test_stats_of_an_empty_table_name_the_brokers_that_store(outbox):
    assert stats("default") == {
        "default": {
            "ready": 0,
            "waiting": 0,
            "dead": 0,
            "oldest_age_seconds": None,
            "leader": None,
            "lease_age_seconds": None,
        }
    }


def test_stats_name_brokers_that_left_the_settings(outbox):
    store(broker="gone")
    lead(broker="former")

    assert list(stats("default")) == ["default", "former", "gone"]


def test_relay_whose_lease_is_over_leads_no_more(outbox):
    lead(seen=30, left=-15)

    found = stats("default")["default"]

    assert found["leader"] is None
    assert found["lease_age_seconds"] > 29


def test_oldest_age_is_that_of_what_could_have_left(outbox):
    store(state=State.WAITING, age=9 * HOUR, due_in=HOUR)
    store(state=State.DEAD, age=9 * HOUR)
    assert stats("default")["default"]["oldest_age_seconds"] is None

    store(state=State.WAITING, age=9 * HOUR, due_in=-60)
    assert 59 < stats("default")["default"]["oldest_age_seconds"] < 120

    store(age=HOUR)
    store(age=1)
    assert HOUR - 1 < stats("default")["default"]["oldest_age_seconds"] < HOUR + 60


def test_stats_can_stop_counting(outbox):
    for _ in range(5):
        store(state=State.DEAD)
        store(state=State.HOLDING)

    assert stats("default", most=3)["default"]["dead"] == 4
    assert stats("default", most=7)["default"]["dead"] == 8
    assert stats("default", most=100)["default"]["dead"] == 10


def test_retry_makes_dead_messages_due_at_once(outbox, woken):
    plain = store(state=State.DEAD, attempts=10, last_error="unroutable", due_in=HOUR)
    keyed = store(state=State.HOLDING, attempts=10, ordering_key="a")
    before = database_now("default")

    assert retry("default", [plain.pk, keyed.pk]) == 2

    rows = list(OutboxMessage.objects.all())
    assert [row.state for row in rows] == [State.WAITING, State.RETRYING]
    assert all(before <= row.due < before + timedelta(seconds=60) for row in rows)
    assert [row.attempts for row in rows] == [0, 0]
    assert woken == [("default", ["default"])]


@pytest.mark.parametrize("state", [State.READY, State.WAITING, State.RETRYING])
def test_retry_leaves_what_is_not_dead(outbox, woken, state):
    row = store(state=state, due_in=HOUR, attempts=3)

    assert retry("default", [row.pk]) == 0

    row.refresh_from_db()
    assert (row.state, row.attempts) == (state, 3)
    assert woken == []


def test_retry_takes_what_a_selection_says(outbox, woken, monkeypatch):
    monkeypatch.setattr(operating, "BATCH", 2)
    for _ in range(5):
        store(state=State.DEAD)
    store(state=State.DEAD, routing_key="mails")
    store(state=State.DEAD, broker="events")

    assert retry("default", Selection(states=DEAD, queue="orders", broker="default")) == 5
    assert Selection(states=DEAD).count("default") == 2
    assert Selection(states=(State.WAITING,)).count("default") == 5


def test_retry_works_in_the_database_that_is_named(outbox, woken):
    here, there = store(state=State.DEAD), store("other", state=State.DEAD)

    assert retry("other", Selection(states=DEAD)) == 1

    assert OutboxMessage.objects.using("default").get(pk=here.pk).state == State.DEAD
    assert OutboxMessage.objects.using("other").get(pk=there.pk).state == State.WAITING
    assert woken == [("other", ["default"])]


def test_discard_deletes_and_wakes_what_was_held_back(outbox, woken):
    holding, plain = store(state=State.HOLDING, ordering_key="a"), store(state=State.DEAD)
    kept = store()

    assert discard("default", [plain.pk]) == 1
    assert woken == []
    assert discard("default", [holding.pk]) == 1
    assert woken == [("default", ["default"])]
    assert OutboxMessage.objects.get() == kept


def test_discard_of_a_selection_asks_again_for_the_state(outbox, monkeypatch):
    """Between reading ids and deleting rows, somebody else may have retried a dead message."""
    row = store(state=State.DEAD)
    ids = Selection.ids

    def ids_and_then_retried(self, using, **kwargs):
        found = ids(self, using, **kwargs)
        retry("default", [row.pk])
        return found

    monkeypatch.setattr(Selection, "ids", ids_and_then_retried)

    assert discard("default", Selection(states=DEAD)) == 0
    assert OutboxMessage.objects.count() == 1


def test_prune_deletes_what_has_been_dead_for_long(outbox, monkeypatch):
    monkeypatch.setattr(operating, "BATCH", 2)
    for _ in range(5):
        store(state=State.DEAD, age=8 * HOUR)
    kept = {
        store(state=State.DEAD, age=HOUR).pk,
        # Holds back its key until somebody decides.
        store(state=State.HOLDING, age=8 * HOUR).pk,
        # Delayed, and refused today: dead for an hour only.
        store(state=State.DEAD, age=8 * HOUR, due_in=-HOUR).pk,
        store(state=State.WAITING, age=8 * HOUR, due_in=-7 * HOUR).pk,
        store(age=8 * HOUR).pk,
    }

    assert discard("default", prunable(7 * HOUR)) == 5
    assert set(OutboxMessage.objects.values_list("pk", flat=True)) == kept


def test_prune_works_in_batches(outbox, monkeypatch):
    monkeypatch.setattr(operating, "BATCH", 3)
    for _ in range(7):
        store(state=State.DEAD, age=8 * HOUR)

    with CaptureQueriesContext(connection) as queries:
        discard("default", prunable(HOUR))

    assert sum(each["sql"].startswith("DELETE") for each in queries) == 3


def test_row_is_named_by_its_id_or_that_of_its_message(outbox):
    first = store(message_id="order-1")
    second, third = store(message_id="twice"), store(message_id="twice")
    number = store(message_id=str(first.pk))

    assert rows_named("default", "order-1") == [first.pk]
    assert rows_named("default", "twice") == [second.pk, third.pk]
    assert rows_named("default", str(first.pk)) == [first.pk]
    assert rows_named("default", "none") == []
    assert rows_named("default", "9" * 30) == []
    number.delete()


def test_ids_of_a_selection_come_in_order_from_every_range(outbox):
    rows = [
        store(state=state, broker=broker)
        for broker in ("b", "a", "default")
        for state in (State.HOLDING, State.DEAD, State.READY)
    ]
    dead = [row.pk for row in rows if row.state in DEAD]

    assert Selection(states=DEAD).ids("default", limit=100) == dead
    assert Selection(states=DEAD).ids("default", limit=2) == dead[:2]
    assert Selection(states=DEAD).ids("default", limit=2, after=dead[1]) == dead[2:4]
    assert Selection(states=DEAD).newest("default", limit=3) == dead[::-1][:3]
    assert Selection().newest("default", limit=100) == [row.pk for row in rows][::-1]
    assert list(Selection(broker="a").batches("default", 2)) == [
        [rows[3].pk, rows[4].pk],
        [rows[5].pk],
    ]


def test_selection_by_age_queue_and_start_of_the_id(outbox):
    old, new = store(age=HOUR, message_id="abc-1"), store(message_id="abc-2", routing_key="mails")

    assert Selection(older_than=60.0).ids("default", limit=9) == [old.pk]
    assert Selection(queue="mails").ids("default", limit=9) == [new.pk]
    assert Selection(prefix="abc").ids("default", limit=9) == [old.pk, new.pk]
    assert Selection(prefix="abc-2", states=(State.READY,)).ids("default", limit=9) == [new.pk]
    assert Selection(prefix="abc", states=DEAD).ids("default", limit=9) == []
    assert Selection(up_to=old.pk).ids("default", limit=9) == [old.pk]
    assert Selection(up_to=old.pk, states=(State.READY,)).count("default") == 1
    assert Selection(prefix="%", older_than=1.0).ids("default", limit=9) == []


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda: stats("default", most=1000), "faststream_outbox_by_"),
        (lambda: Selection(states=DEAD).newest("default", limit=100), "faststream_outbox_by_id"),
        (lambda: Selection(states=DEAD).ids("default", limit=100), "faststream_outbox_by_id"),
        (lambda: Selection(prefix="abc").ids("default", limit=100), "faststream_outbox_by_msg"),
        (lambda: rows_named("default", "abc"), "faststream_outbox_by_msg"),
        (lambda: Selection().newest("default", limit=100), "faststream_outbox_pkey"),
    ],
    ids=["stats", "newest-dead", "oldest-dead", "prefix", "named", "newest"],
)
def test_questions_read_ranges_of_an_index(outbox, ask, index):
    """A million rows or none, analysed or not: never the table from its start, never a sort."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO faststream_outbox (broker, state, ordering_key, message_id, exchange, routing_key, "
            "body, properties, created_at, attempts, last_error) SELECT 'default', (n > 1000)::int, '', "
            "gen_random_uuid(), '', 'orders', '', '{}', 0, 0, '' FROM generate_series(1, 20000) n"
        )
        cursor.execute("ANALYZE faststream_outbox")

    with CaptureQueriesContext(connection) as queries:
        ask()

    plans = ""
    for query in [each["sql"] for each in queries if '"faststream_outbox"' in each["sql"]]:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "Seq Scan" not in plan, f"{query}\n{plan}"
        assert "Sort" not in plan or index == "faststream_outbox_by_msg", plan
        plans += plan
    assert index in plans
    assert index == "faststream_outbox_pkey" or "faststream_outbox_pkey" not in plans


def test_aliases_that_store_are_those_of_valid_entries(settings):
    settings.FASTSTREAM = {
        "default": {"URL": "memory://"},
        "orders": {"URL": "memory://", "ON_COMMIT": "outbox"},
        "mails": {"URL": "memory://", "ON_FAILURE": "outbox"},
        "wrong": {"URL": 5},
    }
    assert outbox_aliases() == ["orders", "mails"]

    settings.FASTSTREAM = None
    assert outbox_aliases() == []
