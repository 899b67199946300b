"""What a batch sends, in which order, and what it leaves in the table."""

import logging
import time

import pytest
from django.db import DatabaseError
from django.db.models import F

from faststream_django import brokers, publish_many_on_commit, publish_on_commit
from faststream_django.connection.bulk import Bulk
from faststream_django.connection.stand_in import StandIn
from faststream_django.exceptions import BrokerUnavailable, ConnectionLost, MessageUnroutable
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.relay import batches as batches_module
from faststream_django.outbox.relay.row import Row
from faststream_django.signals import message_failed, message_published, outbox_message_dead
from tests.outbox.relay.hearing import heard
from tests.publishing.verbs import bodies

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]
SOON, LATER = 1.0, 4e9


def row(body):
    return OutboxMessage.objects.get(body=str(body).encode())


def make_due():
    OutboxMessage.objects.exclude(due=None).update(due=SOON)


def test_what_is_ready_is_sent_and_deleted(outbox, relay):
    publish_many_on_commit(range(3), "orders", ordering_key="a")

    relay()

    assert bodies(outbox.server) == [0, 1, 2]
    assert not OutboxMessage.objects.exists()


def test_what_is_due_is_sent(outbox, relay, insert):
    insert(0, state=State.WAITING, due=SOON)
    insert(1, state=State.RETRYING, due=SOON, ordering_key="a")
    later = insert(2, state=State.WAITING, due=LATER)
    dead = insert(3, state=State.DEAD, due=SOON)

    relay()

    assert sorted(bodies(outbox.server)) == [0, 1]
    assert list(OutboxMessage.objects.values_list("pk", flat=True)) == [later, dead]


def test_only_rows_of_its_broker_and_database_are_sent(outbox, relay, insert):
    insert(0, broker="elsewhere")
    insert(1, using="other")

    relay()
    assert bodies(outbox.server) == []

    relay(using="other")
    assert bodies(outbox.server) == [1]
    assert OutboxMessage.objects.count() == 1


def test_refused_message_holds_up_its_key_only(outbox, relay, insert):
    insert(0, ordering_key="a", routing_key="nowhere")
    insert(1, ordering_key="a")
    insert(2, ordering_key="b")
    insert(3)

    relay()

    assert sorted(bodies(outbox.server)) == [2, 3]
    assert (row(0).state, row(0).attempts) == (State.RETRYING, 1)
    assert "nowhere" in row(0).last_error
    assert (row(1).state, row(1).attempts) == (State.READY, 0)

    OutboxMessage.objects.filter(routing_key="nowhere").update(routing_key="orders")
    relay()
    assert bodies(outbox.server) == []  # it backs off

    make_due()
    relay()
    assert bodies(outbox.server) == [0, 1]


def test_key_keeps_its_order_under_failing_heads(outbox, relay, insert):
    """Each message of three keys is refused twice, wherever its batch is."""
    outbox(OUTBOX={"BACKOFF": (0.001, 0.001)})
    refused = {}
    arrived = []

    def on_send(message, timeout):
        key = int(message.body)
        refused[key] = refused.get(key, 0) + 1
        if refused[key] <= 2:
            raise MessageUnroutable("refused", message=message)
        arrived.append(key)

    for number in range(30):
        insert(number, ordering_key=f"key {number % 3}")
    with brokers.replaced(lambda settings: StandIn(settings, on_send)):
        while OutboxMessage.objects.exists():
            relay(batch_size=7)

    for key in range(3):
        assert [each for each in arrived if each % 3 == key] == list(range(key, 30, 3))


def test_message_is_dead_after_its_attempts_and_others_go_on(outbox, relay, insert, caplog):
    outbox(OUTBOX={"MAX_ATTEMPTS": 2})
    insert("secret", ordering_key="a", routing_key="nowhere", message_id="m0")
    insert(1, ordering_key="a")

    with heard(outbox_message_dead) as dead, heard(message_failed) as failed:
        relay()
        make_due()
        with caplog.at_level(logging.ERROR):
            relay()

    dead_row = OutboxMessage.objects.get()
    assert (dead_row.state, dead_row.attempts) == (State.DEAD, 2)
    assert bodies(outbox.server) == [1]
    assert len(failed) == 2
    (event,) = dead
    assert (event["using"], event["broker"], event["message"].decode()) == ("default", "default", "secret")
    assert isinstance(event["error"], MessageUnroutable)
    assert "state=dead" in caplog.text
    assert "secret" not in caplog.text + dead_row.last_error


def test_dead_message_holds_its_key_where_that_is_set(outbox, relay, insert):
    outbox(OUTBOX={"MAX_ATTEMPTS": 1, "HOLD_KEYS": True})
    insert(0, ordering_key="a", routing_key="nowhere")
    insert(1, ordering_key="a")
    insert(2, routing_key="nowhere")

    relay()
    relay()

    assert bodies(outbox.server) == []
    assert [row(number).state for number in range(3)] == [State.HOLDING, State.READY, State.DEAD]


def test_keys_that_are_held_back_do_not_keep_others_from_leaving(outbox, batches, insert):
    insert("held", ordering_key="a", state=State.HOLDING)
    insert("later", ordering_key="b", state=State.RETRYING, due=LATER)
    for number in range(10):
        insert(number, ordering_key="ab"[number % 2])
    insert("free")
    leader = batches(size=3)

    assert leader.relay().settled == 1
    assert bodies(outbox.server) == ["free"]
    assert leader.relay().read == 0


def test_more_keys_than_one_statement_leaves_out_do_not_either(outbox, batches, insert, monkeypatch):
    monkeypatch.setattr(batches_module, "MOST_EXCLUDED", 2)
    for number in range(10):
        insert(f"head {number}", ordering_key=f"{number}", state=State.RETRYING, due=LATER)
        insert(number, ordering_key=f"{number}")
    insert("free")

    assert batches(size=3).relay().settled == 1
    assert bodies(outbox.server) == ["free"]


def test_key_whose_head_came_due_after_the_reading_waits(outbox, batches, insert):
    """The head is due between the two statements; its successor must not overtake it."""
    leader = batches()
    head = insert("head", ordering_key="a", state=State.RETRYING, due=LATER)
    insert("next", ordering_key="a")
    read = leader.reader.read

    def read_then_due(*arguments):
        rows = read(*arguments)
        OutboxMessage.objects.filter(pk=head).update(due=SOON)
        return rows

    leader.reader.read = read_then_due
    assert leader.relay().read == 0
    leader.reader.read = read
    leader.relay()
    leader.relay()

    assert bodies(outbox.server) == ["head", "next"]


def test_outage_costs_no_attempt(outbox, relay, insert, unreachable_port):
    outbox(URL=f"amqp://127.0.0.1:{unreachable_port}", TIMEOUT=0.3)
    insert(0)
    insert(1, ordering_key="a")

    with pytest.raises(BrokerUnavailable):
        relay()

    assert [(each.state, each.attempts) for each in OutboxMessage.objects.all()] == [(State.READY, 0)] * 2


class Poisoned(StandIn):
    """Loses the connection with everything in flight as soon as one message is among it."""

    def send_many(self, items, timeout=None, on_settled=lambda chunk: None):
        bulk = Bulk(self.settings.alias)
        for chunk in bulk.chunks(items):
            if any(each.message.body == b'"poison"' for each in chunk.publications):
                for each in chunk.publications:
                    chunk.errors[each.index] = ConnectionLost("lost", message=each.message)
            on_settled(bulk.settle(chunk))
        return bulk.result


def test_what_was_in_flight_at_several_lost_connections_is_sent_alone(outbox, batches, insert):
    for number in range(3):
        insert(number)
    insert("poison")
    leader = batches()

    with brokers.replaced(Poisoned):
        assert isinstance(leader.relay().outage, ConnectionLost)
        assert isinstance(leader.relay().outage, ConnectionLost)
        assert leader.relay().settled == 4

    poison = OutboxMessage.objects.get()
    assert (poison.state, poison.attempts) == (State.WAITING, 0)


def test_confirmed_rows_are_deleted_later_when_the_database_is_away(outbox, batches, insert, monkeypatch):
    insert(0)
    leader = batches()

    with monkeypatch.context() as patched:
        patched.setattr(batches_module, "delete_rows", lambda *_: (_ for _ in ()).throw(DatabaseError))
        with pytest.raises(DatabaseError):
            leader.relay()
    leader.relay()

    assert bodies(outbox.server) == [0]
    assert not OutboxMessage.objects.exists()


def test_attempt_is_counted_once_when_the_database_is_away(outbox, batches, insert, monkeypatch):
    insert(0, routing_key="nowhere")
    leader = batches()

    with monkeypatch.context() as patched:
        patched.setattr(leader._attempts, "write", lambda *_: (_ for _ in ()).throw(DatabaseError))
        with pytest.raises(DatabaseError):
            leader.relay()
    leader.relay()
    leader.conclude()

    assert row(0).attempts == 1


def test_books_are_kept_by_the_holder_of_the_lease_only(outbox, batches, insert):
    insert(0, routing_key="nowhere")
    leader = batches(seconds=60.0)
    from faststream_django.outbox.models import Lease

    Lease.objects.update(holder="another")
    leader.relay()

    assert (row(0).state, row(0).attempts) == (State.READY, 0)
    assert leader._lease.is_due


def test_nothing_leaves_when_the_lease_has_little_time_left(outbox, batches, insert):
    insert(0)
    leader = batches()
    leader._lease._expires_at = time.monotonic() + 5
    leader.relay()
    assert bodies(outbox.server) == []

    leader._lease.renew()
    leader.relay()
    assert bodies(outbox.server) == [0]


def test_feeding_stops_when_the_lease_runs_short(outbox, batches, insert, monkeypatch):
    for number in range(3):
        insert(number)
    leader = batches()
    message = Row.message

    def late(self):
        leader._lease._expires_at = time.monotonic() + 5
        return message(self)

    monkeypatch.setattr(Row, "message", late)

    assert leader.relay().settled == 1
    assert bodies(outbox.server) == [0]


def test_row_that_cannot_be_read_is_dead_at_once_and_others_go_on(outbox, relay, insert):
    insert("poison", properties="{")
    insert("old", properties="{}")
    insert(1)

    with heard(outbox_message_dead) as dead:
        relay()

    assert bodies(outbox.server) == [1]
    for each in OutboxMessage.objects.all():
        assert each.state == State.DEAD
        assert "cannot be read" in each.last_error
    assert len(dead) == 2


def test_expired_message_is_deleted_and_what_is_left_of_another_is_sent(outbox, relay, caplog):
    with heard(message_published) as published:
        publish_on_commit(0, "orders", ordering_key="a", expiration=60)
        publish_on_commit(1, "orders", ordering_key="a", expiration=60)
        first = OutboxMessage.objects.order_by("pk")[:1].values_list("pk")
        OutboxMessage.objects.filter(pk__in=list(first.values_list("pk", flat=True))).update(
            expires_at=F("created_at") - 1.0
        )
        OutboxMessage.objects.exclude(body=b"0").update(expires_at=F("expires_at") - 20.0)
        with caplog.at_level(logging.INFO, "faststream_django.outbox"):
            relay()

    assert bodies(outbox.server) == [1]
    assert 0 < published[0]["message"].expiration <= 40
    assert "state=expired" in caplog.text
    assert not OutboxMessage.objects.exists()


def test_signals_tell_of_relayed_messages_and_the_log_of_batches(outbox, relay, caplog):
    publish_many_on_commit(range(3), "orders", ordering_key="a")

    with heard(message_published) as published, caplog.at_level(logging.DEBUG, "faststream_django.outbox"):
        relay()

    assert [event["message"].decode() for event in published] == [0, 1, 2]
    assert [record.getMessage() for record in caplog.records if "confirmed=" in record.getMessage()] == [
        "using=default broker=default read=3 confirmed=3 refused=0 postponed=0 unreadable=0"
    ]
