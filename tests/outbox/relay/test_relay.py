"""A relay leads or stands by, and survives what happens to its database and its broker."""

import logging
import threading
import time

import pytest
from django.db import Error, connection

from faststream_django import publish_many_on_commit, publish_on_commit
from faststream_django.outbox.models import Lease, OutboxMessage, State
from faststream_django.outbox.relay import pruning
from faststream_django.outbox.relay.lease import Lease as HeldLease
from faststream_django.outbox.relay.relay import Relay
from tests.outbox.waiting import SOON, wait_until
from tests.publishing.verbs import bodies

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


def is_empty():
    return not OutboxMessage.objects.exists()


def held(seconds=60.0):
    """Take the lease as another relay would."""
    lease = HeldLease("default", "default", seconds)
    lease.prepare()
    assert lease.renew()
    return lease


def test_running_relay_sends_what_is_committed(outbox, running):
    running()

    publish_many_on_commit(range(3), "orders", ordering_key="a")
    wait_until(is_empty)

    assert bodies(outbox.server) == [0, 1, 2]


def test_lease_is_released_at_the_end(outbox, running, stopping):
    relay = running()
    wait_until(lambda: Lease.objects.filter(holder=relay.lease.holder).exists())

    stopping.set()

    wait_until(lambda: Lease.objects.filter(holder="", expires_at=0.0).exists())


def test_one_of_two_relays_sends_and_the_other_takes_over(outbox, running, stopping):
    first = held()
    publish_on_commit(0, "orders", ordering_key="a")
    stands_by = threading.Semaphore(0)
    second = running(on_alive=stands_by.release)

    # Twice: it has looked, waited and looked again.
    assert stands_by.acquire(timeout=SOON)
    assert stands_by.acquire(timeout=SOON)
    assert not is_empty()

    first.release()
    wait_until(is_empty)
    assert Lease.objects.get().holder == second.lease.holder


def test_lease_that_has_run_out_is_taken_over(outbox, running):
    held(seconds=1.0)
    publish_on_commit(0, "orders", ordering_key="a")

    running()

    wait_until(is_empty)


def test_lease_is_not_taken_while_it_lasts(outbox):
    first = held()
    second = HeldLease("default", "default", 15.0)

    assert not second.renew()
    assert second.seconds_left < 0
    second.release()
    assert first.renew()


def test_relay_outlives_its_connections(outbox, running, engine):
    if engine != "postgresql":
        pytest.skip("Only PostgreSQL has connections that another one can end.")
    running()
    for number in range(3):
        publish_on_commit(number, "orders", ordering_key="a")
        wait_until(is_empty)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    publish_on_commit(3, "orders", ordering_key="a")
    wait_until(is_empty)

    assert sorted(set(bodies(outbox.server))) == [0, 1, 2, 3]


def test_relay_outlives_what_it_does_not_expect(outbox, running, monkeypatch, caplog):
    failures = [RuntimeError("unexpected"), Error("of the database")]
    renew = HeldLease.renew

    def fail(self):
        if failures:
            raise failures.pop()
        return renew(self)

    monkeypatch.setattr(HeldLease, "renew", fail)
    publish_on_commit(0, "orders", ordering_key="a")

    running()

    wait_until(is_empty)
    assert "unexpected" in caplog.text
    assert "of the database" not in caplog.text


def test_idle_relay_needs_a_statement_a_second(outbox, stopping, statements):
    """The waits are added up instead of waited for."""
    waits = []

    class Quick:
        def wait(self, seconds, stopping):
            waits.append(seconds)
            if sum(waits) >= 60:
                stopping.set()

    relay = Relay("default", "default")
    relay.lease.seconds = 0.001  # it is due each time, which is the worst case
    relay._connect()
    with statements() as made:
        relay._lead(relay._batches(stopping), Quick(), stopping)

    assert 30 < len([sql for sql in made.sql if "pg_sequence " not in sql]) <= sum(waits)


def test_relay_pauses_during_an_outage_and_goes_on(outbox, running, insert, unreachable_port, caplog):
    broken = outbox(URL=f"amqp://127.0.0.1:{unreachable_port}", TIMEOUT=0.1)
    insert(0)
    with caplog.at_level(logging.INFO, "faststream_django.outbox"):
        running()
        wait_until(lambda: "state=waiting" in caplog.text)
        server = outbox()
        wait_until(is_empty)
        wait_until(lambda: "state=sending-again" in caplog.text)

    assert broken is server
    assert bodies(server) == [0]
    assert caplog.text.count("state=waiting") == 1


def test_dead_messages_are_pruned_after_their_time(outbox, insert, monkeypatch):
    outbox(OUTBOX={"RETAIN_DEAD": 60.0})
    monkeypatch.setattr(pruning, "MOST", 2)
    old = [insert(number, state=State.DEAD, due=1.0) for number in range(3)]
    kept = {
        insert("new", state=State.DEAD, due=time.time()),
        insert("holding", state=State.HOLDING, due=1.0),
        insert("other", broker="other", state=State.DEAD, due=1.0),
    }
    prune = pruning.Pruning("default", "default").prune

    prune()
    assert OutboxMessage.objects.filter(pk__in=old).count() == 1
    prune()
    prune()

    assert {*OutboxMessage.objects.values_list("pk", flat=True)} == kept


def test_once_says_that_another_relay_leads(outbox, relay, insert):
    held()
    insert(0)

    assert relay() is False
    assert not is_empty()


def test_alive_relay_says_so_while_it_stands_by_and_while_it_leads(outbox, running):
    other = held()
    alive = threading.Semaphore(0)
    running(on_alive=alive.release)

    assert alive.acquire(timeout=SOON)
    other.release()
    wait_until(lambda: not Lease.objects.filter(holder__in=["", other.holder]).exists())
    assert alive.acquire(timeout=SOON)
