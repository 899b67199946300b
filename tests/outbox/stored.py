"""Rows as operators find them, written without a message's way there."""

import time
import uuid

from faststream_django.outbox.models import Lease, OutboxMessage, State


def store(using="default", *, age=0.0, due_in=None, **columns):
    """Insert a row that was written `age` seconds ago."""
    now = time.time()
    columns = {
        "broker": "default",
        "state": State.READY,
        "message_id": str(uuid.uuid4()),
        "routing_key": "orders",
        "body": b'{"n": 1}',
        "properties": '{"correlation_id":"c","content_type":"application/json"}',
        "created_at": now - age,
        "due": None if due_in is None else now + due_in,
        **columns,
    }
    return OutboxMessage.objects.using(using).create(**columns)


def lead(using="default", *, broker="default", holder="relay-1", seen=1.0, left=10.0):
    """Have a relay hold the lease that it renewed `seen` seconds ago, for `left` more."""
    now = time.time()
    return Lease.objects.using(using).create(
        broker=broker, holder=holder, seen_at=now - seen, expires_at=now + left
    )
