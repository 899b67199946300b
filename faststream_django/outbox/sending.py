"""Sends rows of the outbox after their commit, and deletes what the broker has confirmed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from django.db import Error, connections

from faststream_django.conf.entries import broker_settings
from faststream_django.connection.bulk import LOST, Chunk
from faststream_django.connection.stand_in import StandIn
from faststream_django.exceptions import InvalidMessage, MessageRejected, MessageUnroutable
from faststream_django.messages.message import Message
from faststream_django.outbox.engines import clock
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.rows import aged
from faststream_django.outbox.wakeup import notify
from faststream_django.outbox.writing import Stored
from faststream_django.publishing.announcements import announce
from faststream_django.registry import brokers

__all__ = ["COUNTED", "delete_rows", "leave_to_relay", "send_rows"]

logger = logging.getLogger("faststream_django.outbox")

COUNTED = (MessageUnroutable, MessageRejected, InvalidMessage)
"""What the message itself may be to blame for. Anything else is an outage, which costs no attempt."""

FEEDING = 0.5
"""The part of GRACE in which messages may begin to leave; the rest is for the answers of the broker."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def send_rows(stored: Iterable[Stored]) -> set[str]:
    """Send what is still in its database, delete what is confirmed, and wake the relay for what is its own.

    Raises for no message and no database: what fails, and what has no time left, stays for the relay. Returns
    the aliases of the brokers that are away.
    """
    away: set[str] = set()
    for using, rows in _grouped(stored, lambda each: each.using).items():
        here = [each for each in rows if each.is_eager or is_replaced(each.broker)]
        try:
            if here:
                away |= _send(using, here)
        except Error as error:
            logger.warning(
                "using=%s count=%d state=left-to-relay reason=%s", using, len(here), type(error).__name__
            )
        if waking := {each.broker for each in rows if each.wakes_relay and not is_replaced(each.broker)}:
            notify(using, waking)
    return away


def delete_rows(using: str, ids: Sequence[int]) -> None:
    """Delete what the broker has, whoever sent it."""
    if ids:
        with connections[using].cursor() as cursor:
            cursor.execute(_sql("DELETE", using, ids))


def leave_to_relay(stored: Iterable[Stored]) -> None:
    """Have the relay send at once what this process certainly has not sent. Never raises.

    Otherwise the rows wait for the end of GRACE, also when the broker comes back before.
    """
    for using, rows in _grouped(stored, lambda each: each.using).items():
        connection = connections[using]
        name = connection.ops.quote_name
        table, due, now = name(OutboxMessage._meta.db_table), name("due"), clock(connection)  # noqa: SLF001
        condition = f"{name('state')} = {State.WAITING:d} AND {due} > {now} AND {name('id')} IN "
        condition += f"({', '.join(str(each.row_id) for each in rows)})"
        # SQLite may have given the id of a row that was rolled back to that of a later moment.
        condition += f" AND {name('message_id')} IN ({', '.join(['%s'] * len(rows))})"
        try:
            with connection.cursor() as cursor:
                sql = f"UPDATE {table} SET {due} = {now} WHERE {condition}"  # noqa: S608
                cursor.execute(sql, [each.message.message_id for each in rows])
        except Error as error:
            logger.debug("using=%s state=not-left reason=%s", using, type(error).__name__)


def is_replaced(alias: str) -> bool:
    """Tell whether a stand-in of a test takes the messages, also those that only the relay would send."""
    return brokers.are_replaced or isinstance(brokers[alias], StandIn)


def _send(using: str, rows: Sequence[Stored]) -> set[str]:
    away: set[str] = set()
    done: list[int] = []
    unsent: list[Stored] = []
    # A savepoint that was rolled back by hand takes its rows along, and Django keeps the callback.
    present = _twice(using, lambda: _present(using, [each.row_id for each in rows]))
    # SQLite gives its id to the next row then.
    rows = [each for each in rows if present.get(each.row_id) == each.message.message_id]
    groups = _grouped(rows, lambda each: each.broker)
    try:
        for alias, group in groups.items():
            try:
                is_away = _send_group(alias, group, done, unsent)
            except Exception:  # the settings of one broker may be wrong: the others go on
                logger.exception("broker=%s count=%d state=left-to-relay", alias, len(group))
                is_away = True
            if is_away:
                away.add(alias)
    finally:
        _twice(using, lambda: delete_rows(using, done))
    if unsent:
        leave_to_relay(unsent)
    return away


def _send_group(alias: str, rows: Sequence[Stored], done: list[int], unsent: list[Stored]) -> bool:
    """Send rows of one broker and note which are done with; return whether the broker is away.

    In that case note also which have certainly not been sent.
    """
    settings, already = broker_settings(alias), len(done)
    feed = _Feed(rows, done, settings.outbox.grace, is_real=not is_replaced(alias))
    timeout = min(settings.timeout if each.timeout is None else each.timeout for each in rows)
    errors = brokers[alias].send_many(feed, min(timeout, feed.answering), feed.settle).errors
    left = len(rows) - (len(done) - already)
    if left:
        reason = next((str(error) for error in errors.values()), "no time is left")
        logger.warning("broker=%s count=%d state=left-to-relay reason=%r", alias, left, reason)
    else:
        logger.debug("broker=%s count=%d state=sent", alias, len(rows))
    if not any(isinstance(error, LOST) for error in errors.values()):
        return False
    unsent += feed.not_taken()
    unsent += [
        feed.sent[index]
        for index, error in errors.items()
        if isinstance(error, LOST) and not error.maybe_sent
    ]
    return True


class _Feed:
    """The messages of one broker, as long as there is time; and what came of them.

    Nothing is to leave once its row is due, when the relay may send it: what begins to leave within the first
    half of GRACE has the other half for its answer.
    """

    def __init__(self, rows: Sequence[Stored], done: list[int], grace: float, *, is_real: bool) -> None:
        self._rows = rows
        self._done = done
        self.sent: list[Stored] = []
        """Those that were given to the connection, in that order."""
        self._is_real = is_real
        self._feeding = grace * FEEDING
        self.answering = grace - self._feeding
        """How long a message may be under way."""

    def __iter__(self) -> Iterator[Message]:
        for each in self._rows:
            message: Message | None = each.message
            if self._is_real:
                age = time.monotonic() - each.stored_at
                if age > self._feeding:
                    continue
                message = aged(each.message, age)
            if message is None:
                self._done.append(each.row_id)
            else:
                self.sent.append(each)
                yield message

    def not_taken(self) -> list[Stored]:
        """Return those that nobody asked for, since the ones before failed."""
        taken = {each.row_id for each in self.sent}.union(self._done)
        return [each for each in self._rows if each.row_id not in taken]

    def settle(self, chunk: Chunk) -> None:
        for publication in chunk.publications:
            error = chunk.errors.get(publication.index)
            if error is None:
                self._done.append(self.sent[publication.index].row_id)
            if error is None or isinstance(error, COUNTED):
                announce(publication.message, publication.broker, error)


def _present(using: str, ids: Sequence[int]) -> dict[int, str]:
    with connections[using].cursor() as cursor:
        cursor.execute(_sql("SELECT id, message_id", using, ids))
        return dict(cursor.fetchall())


def _sql(verb: str, using: str, ids: Sequence[int]) -> str:
    """Return a statement about rows, with the ids in it: some engines take few parameters."""
    table = connections[using].ops.quote_name(OutboxMessage._meta.db_table)  # noqa: SLF001
    return f"{verb} FROM {table} WHERE id IN ({', '.join(map(str, ids))})"


def _twice(using: str, work: Callable[[], T]) -> T:
    """Do it again if it fails, as on a connection that was terminated meanwhile."""
    try:
        return work()
    except Error:
        if connections[using].in_atomic_block:
            raise
        connections[using].close()
        return work()


def _grouped(rows: Iterable[Stored], key: Callable[[Stored], K]) -> dict[K, list[Stored]]:
    groups: dict[K, list[Stored]] = {}
    for each in rows:
        groups.setdefault(key(each), []).append(each)
    return groups
