"""Who waits for messages hears of them, where PostgreSQL can be heard."""

import threading
import time
from contextlib import closing

import pytest
from django.db import connection, connections, transaction

from faststream_django.outbox import wakeup
from faststream_django.outbox.wakeup import LEASES, Listener, notify

pytestmark = pytest.mark.django_db(transaction=True)
# Seconds: nobody waits that long where a notification came.
LONG = 30.0


def waited(listener, seconds=LONG, *channel):
    began = time.monotonic()
    listener.wait(seconds, threading.Event(), *channel)
    return time.monotonic() - began


@pytest.fixture
def listener():
    with closing(Listener("default", "orders")) as listener:
        listener.open()
        yield listener


@pytest.mark.postgresql
def test_listener_hears_of_its_broker_even_before_it_waits(listener):
    notify("default", ["other", "orders"])

    assert waited(listener) < LONG / 2


@pytest.mark.postgresql
def test_listener_hears_nothing_of_other_brokers_and_channels(listener):
    notify("default", ["other"])
    notify("default", ["orders"], LEASES)

    assert waited(listener, 0.3) >= 0.3


@pytest.mark.postgresql
def test_listener_ends_its_wait_when_it_is_to_stop(listener):
    stopping = threading.Event()
    thread = threading.Thread(target=listener.wait, args=(LONG, stopping), daemon=True)
    thread.start()

    stopping.set()
    thread.join(LONG / 2)

    assert not thread.is_alive()


@pytest.mark.postgresql
def test_listener_whose_connection_is_lost_waits_and_listens_again(listener, monkeypatch):
    monkeypatch.setattr(wakeup, "REOPEN_AFTER", 0.0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [listener._connection.connection.info.backend_pid])

    assert waited(listener, 0.3) >= 0.3

    listener.open()
    notify("default", ["orders"])
    assert waited(listener) < LONG / 2


@pytest.mark.postgresql
def test_listener_polls_behind_a_pooler(monkeypatch):
    monkeypatch.setattr(wakeup, "_backend_pid", lambda driver: -1)
    with closing(Listener("default", "orders")) as listener:
        listener.open()
        notify("default", ["orders"])

        assert not listener.is_listening
        assert waited(listener, 0.3) >= 0.3


@pytest.mark.postgresql
def test_notify_never_raises():
    with transaction.atomic():
        with connection.cursor() as cursor, pytest.raises(Exception, match="division"):
            cursor.execute("SELECT 1/0")
        notify("default", ["orders"])
        transaction.set_rollback(True)


def test_other_engines_are_not_asked(monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")

    with django_assert_num_queries(0):
        notify("default", ["orders"])
    with closing(Listener("default", "orders")) as listener:
        listener.open()
        assert not listener.is_listening
