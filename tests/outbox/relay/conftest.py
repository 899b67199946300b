import json
import threading

import pytest
from django.db import connections

from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.relay.batches import Batches
from faststream_django.outbox.relay.lease import Lease
from faststream_django.outbox.relay.relay import Relay


@pytest.fixture
def stopping():
    return threading.Event()


@pytest.fixture
def relay(stopping):
    """Return a function that sends what is due, in this thread, and leaves the lease."""

    def relay(alias="default", using="default", **options):
        return Relay(using, alias, **options).run_once(stopping, 0.0)

    return relay


@pytest.fixture
def batches(stopping):
    """Return a function that makes a leader whose batches the test relays one by one."""

    def batches(alias="default", using="default", *, size=500, seconds=15.0):
        lease = Lease(using, alias, seconds)
        lease.prepare()
        assert lease.renew()
        made = Batches(using, alias, lease, stopping, size=size)
        made.prepare()
        return made

    return batches


@pytest.fixture
def running(stopping):
    """Return a function that runs a relay in a thread, and ends it with the test."""
    threads = []

    def run(alias="default", using="default", **options):
        relay = Relay(using, alias, **options)
        thread = threading.Thread(target=_run, args=(relay, stopping), daemon=True)
        thread.start()
        threads.append(thread)
        return relay

    yield run
    stopping.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def _run(relay, stopping):
    relay.run(stopping)
    own = connections[relay.using].connection
    if own is not None:  # Django leaves those to SQLite's databases in memory open
        own.close()


@pytest.fixture
def insert():
    """Return a function that inserts a row as it is, and returns its id."""

    def insert(body=None, *, using="default", **columns):
        properties = {"correlation_id": "c", "timestamp": {"~": "datetime", "v": "2026-01-01T00:00:00+00:00"}}
        row = OutboxMessage.objects.using(using).create(
            **{
                "broker": "default",
                "state": State.READY,
                "message_id": f"m{body}",
                "routing_key": "orders",
                "body": json.dumps(body).encode(),
                "properties": json.dumps(properties | {"content_type": "application/json"}),
                "created_at": 0.0,
                **columns,
            }
        )
        return row.pk

    return insert


@pytest.fixture
def statements():
    """Return a function that counts the statements of a thread's connection until it is called again."""
    return Statements


class Statements:
    def __init__(self, using="default"):
        self._connection = connections[using]
        self.sql = []

    def __call__(self, execute, sql, params, many, context):
        self.sql.append(sql)
        return execute(sql, params, many, context)

    def __enter__(self):
        self._connection.execute_wrappers.append(self)
        return self

    def __exit__(self, *exc):
        self._connection.execute_wrappers.remove(self)
