"""What comes while the broker is away is the relay's at once: it may be back before the end of GRACE."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from django.db.models import Q

from faststream_django import publish_many_on_commit, publish_on_commit
from faststream_django.connection.bulk import BulkResult
from faststream_django.exceptions import ConnectionLost
from faststream_django.outbox import sending
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.resting import resting
from tests.outbox.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


@pytest.fixture
def away(settings, outbox, unreachable_port):
    """Have the broker away."""
    settings.FASTSTREAM["default"] |= {
        "URL": f"amqp://guest:guest@127.0.0.1:{unreachable_port}/",
        "TIMEOUT": 0.2,
        "OUTBOX": {"GRACE": 600.0},
    }
    settings.FASTSTREAM = settings.FASTSTREAM


def count_due():
    """Count the rows that the relay may send now."""
    return OutboxMessage.objects.filter(
        Q(state=State.READY) | Q(state=State.WAITING, due__lte=datetime.now(UTC) + timedelta(seconds=1))
    ).count()


def test_messages_of_outage_do_not_wait_for_end_of_grace(outbox, eager, away):
    with transaction.atomic():
        publish_many_on_commit(range(3), "orders")
        publish_on_commit("later", "orders", deliver_at=datetime.now(UTC) + timedelta(hours=1))
    wait_until(lambda: count_due() == 3 and "default" in resting)

    publish_on_commit(3, "orders")

    assert count_due() == 4
    assert OutboxMessage.objects.count() == 5


def test_message_stored_before_outage_was_known_does_not_wait_for_end_of_grace(outbox, eager, away):
    with transaction.atomic():
        publish_on_commit(1, "orders")
        resting.add(["default"])

    wait_until(lambda: count_due() == 1)


def test_message_that_may_have_been_sent_waits_for_end_of_grace(outbox, eager, monkeypatch):
    """Its answer may still come."""
    monkeypatch.setattr("faststream_django.outbox.sending.brokers", Unsure(sending.brokers))

    publish_on_commit(1, "orders")

    wait_until(lambda: "default" in resting)
    assert OutboxMessage.objects.get().state == State.WAITING
    assert count_due() == 0


class Unsure:
    """The brokers, whose connections are lost while each message is in flight."""

    are_replaced = False

    def __init__(self, brokers):
        self._brokers = brokers

    def __getitem__(self, alias):
        return self

    def send_many(self, items, timeout, on_chunk):
        errors = {
            index: ConnectionLost("in flight", message_id=item.message_id, broker="default")
            for index, item in enumerate(items)
        }
        return BulkResult(errors=errors)
