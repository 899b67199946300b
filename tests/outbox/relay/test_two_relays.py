"""Two relays, writers, retries and an operator at once: engines differ in what they lock."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction

from faststream_django import publish_on_commit
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.relay.relay import Relay
from tests.outbox.waiting import wait_until
from tests.publishing.verbs import bodies

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]

WRITERS, COUNT = 4, 60


def write(writer):
    """Publish a numbered message in each of many transactions, some of which are rolled back."""
    try:
        for number in range(COUNT):
            with transaction.atomic():
                publish_on_commit([writer, "keyed", number], "orders", ordering_key=f"w{writer}")
                publish_on_commit([writer, "free", number], "orders")
                if number % 10 == 9:
                    transaction.set_rollback(True)
    finally:
        connections.close_all()


def test_two_relays_send_each_message_once_without_an_error(outbox, caplog):
    caplog.set_level(logging.WARNING, "faststream_django")
    outbox(OUTBOX={"EAGER": False, "LEASE": 5.0, "BATCH": 20, "BACKOFF": (0.01, 0.01)})
    publish_on_commit("unroutable", "nowhere", ordering_key="bad")
    first, both = threading.Event(), threading.Event()
    relays = [
        threading.Thread(target=Relay("default", "default").run, args=[stopping], daemon=True)
        for stopping in (first, both)
    ]
    for relay in relays:
        relay.start()
    sent = []

    def take():
        sent.extend(bodies(outbox.server))
        return len(sent)

    with ThreadPoolExecutor(WRITERS) as pool:
        done = [pool.submit(write, writer) for writer in range(WRITERS)]
        wait_until(lambda: take() > WRITERS, "a message")
        first.set()  # whichever leads, the other goes on
        for each in done:
            each.result()
    wait_until(lambda: not OutboxMessage.objects.filter(state__lt=State.DEAD).exists(), "the last message")
    both.set()
    for relay in relays:
        relay.join(10)

    take()
    numbers = [number for number in range(COUNT) if number % 10 != 9]
    for writer in range(WRITERS):
        assert [number for who, kind, number in sent if (who, kind) == (writer, "keyed")] == numbers
        assert sorted(number for who, kind, number in sent if (who, kind) == (writer, "free")) == numbers
    # The broker may be slow on a busy machine; the database is not to blame for anything.
    said = [record.getMessage() for record in caplog.records if record.name == "faststream_django.outbox"]
    assert not [text for text in said if "state=dead" not in text and "state=waiting" not in text]
