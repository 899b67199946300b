"""A process that commits and rolls back transactions with messages, until SIGTERM.

What a transaction committed is in the table `committed`, which is written in the same transaction: whatever
kills the process or its connection, the rows there are the messages that must arrive, and no other may.
"""

import contextlib
import json
import random
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

from django.db import Error, connection, transaction
from django.utils import timezone

from faststream_django import publish_many_on_commit, publish_on_commit

QUEUE = "crash"
KEYS = [f"key{number}" for number in range(20)]
DELAY = 0.5  # seconds of what has a moment of its own
LINGERING = (0.0,) * 12 + (0.02, 0.02, 0.1, 0.4)  # seconds that transactions stay open
TABLES = (
    "CREATE TABLE committed (message_id text PRIMARY KEY, key text, number bigint, body text)",
    "CREATE TABLE keys (key text PRIMARY KEY, number bigint)",
    *(f"INSERT INTO keys VALUES ('{key}', 0)" for key in KEYS),
)


class RolledBack(Exception):
    """Ends a block of transaction.atomic()."""


def write(pause: float) -> None:
    """Run transactions with so many seconds between them, about, until SIGTERM."""
    stopping, dice = threading.Event(), random.Random(uuid.uuid4().int)
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    while not stopping.wait(dice.expovariate(1 / pause)):
        try:
            with contextlib.suppress(RolledBack):
                run_transaction(dice)
        except Error:  # the connection was terminated
            with contextlib.suppress(Error):
                connection.close()
    connection.close()


def run_transaction(dice: random.Random) -> None:
    """Publish in every way, in some order; roll back now and then, all or a part."""
    # All of a transaction, in the same order in each: those that wait for each other would deadlock.
    keys = sorted(dice.sample(KEYS, dice.choice((0, 1, 1, 2))))
    with transaction.atomic():
        if dice.random() < 0.6:
            publish(1)
        if dice.random() < 0.1:
            publish(1, deliver_at=timezone.now() + timedelta(seconds=DELAY))
        # Others draw their ids and commit meanwhile.
        time.sleep(dice.choice(LINGERING))
        for key in keys:
            publish(dice.choice((1, 1, 3)), key)
        if dice.random() < 0.2:
            roll_back_savepoint(keys)
        if dice.random() < 0.2:
            roll_back_by_hand(keys)
        if dice.random() < 0.1:
            publish(20)
        for key in keys[:1]:
            publish(1, key)
        time.sleep(dice.choice(LINGERING))
        if dice.random() < 0.15:
            raise RolledBack


def roll_back_savepoint(keys: Sequence[str]) -> None:
    with contextlib.suppress(RolledBack), transaction.atomic():
        publish(1)
        for key in keys:
            publish(1, key)
        raise RolledBack


def roll_back_by_hand(keys: Sequence[str]) -> None:
    """Roll back rows whose callbacks Django keeps."""
    savepoint = transaction.savepoint()
    publish(2)
    for key in keys:
        publish(1, key)
    transaction.savepoint_rollback(savepoint)


def publish(count: int, key: str = "", **options: object) -> None:
    """Publish so many messages, and note them in this transaction with their numbers within the key."""
    number = draw(key, count) if key else 0
    entries = [(uuid.uuid4().hex, number - count + index + 1 if key else None) for index in range(count)]
    bodies = [{"id": message_id, "key": key, "number": at} for message_id, at in entries]
    if count == 1:
        message_id = entries[0][0]
        publish_on_commit(bodies[0], QUEUE, ordering_key=key or None, message_id=message_id, **options)
    else:
        # Their ids are given by the call.
        ids = publish_many_on_commit(bodies, QUEUE, ordering_key=key or None, **options)
        entries = [(message_id, at) for message_id, (_, at) in zip(ids, entries, strict=True)]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO committed VALUES (%s, %s, %s, %s)",
            [
                (message_id, key, at, json.dumps(body))
                for (message_id, at), body in zip(entries, bodies, strict=True)
            ],
        )


def draw(key: str, count: int) -> int:
    """Return the last of the next numbers of a key. Until the commit nobody else draws one of it."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE keys SET number = number + %s WHERE key = %s RETURNING number", [count, key])
        (number,) = cursor.fetchone()
    return int(number)
