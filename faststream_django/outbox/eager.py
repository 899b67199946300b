"""Sends what transactions left, once they have committed: on one thread of the process."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any, cast

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.guard import runs_tests
from faststream_django.loop.backlog import Backlog, Limits
from faststream_django.outbox.resting import resting
from faststream_django.outbox.sending import leave_to_relay, send_rows
from faststream_django.outbox.writing import Stored
from faststream_django.publishing.outgoing import Outgoing
from faststream_django.registry import brokers

__all__ = ["Eager", "eager", "hand_over"]

logger = logging.getLogger("faststream_django.outbox")


def hand_over(stored: list[Outgoing], robust: bool) -> None:  # noqa: ARG001, FBT001
    """Take the rows of a transaction that has committed, and return at once. Never raises.

    The rows are committed: what is not sent from here is the relay's.
    """
    rows = cast("list[Stored]", stored)
    try:
        if _sends_here(rows):
            send_rows(rows)
        else:
            eager.put(rows)
    except Exception:
        logger.exception("count=%d state=left-to-relay", len(rows))


class _Here(threading.local):
    """What is the thread's own, and not of the one that it had before a fork."""

    def __init__(self) -> None:
        self.connections: dict[str, BaseDatabaseWrapper] = {}


class Eager:
    """The thread that sends what many transactions left together."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._backlog: Backlog[Stored] = Backlog("faststream_django.outbox", self, limits)
        self._here = _Here()

    def put(self, rows: Sequence[Stored]) -> None:
        """Leave the rows to the thread, as many as there is room for."""
        mine = [each for each in rows if each.is_eager]
        # One of those that the relay sends is enough to wake it.
        mine += {(each.using, each.broker): each for each in rows if each.wakes_relay}.values()
        if left := len(mine) - self._backlog.put(mine):
            logger.warning("count=%d state=left-to-relay reason='too many wait'", left)

    def stop(self, timeout: float) -> None:
        """Send what waits, and end the thread; the next rows start another."""
        self._backlog.stop(timeout)

    def take(self, rows: list[Stored]) -> None:
        usable = {using for using in {each.using for each in rows} if self._prepare(using)}
        rows = [each for each in rows if each.using in usable]
        late = [each for each in rows if each.is_eager and each.broker in resting]
        if late:  # stored before the broker was known to be away
            leave_to_relay(late)
        resting.add(send_rows(each for each in rows if not (each.is_eager and each.broker in resting)))

    def rest(self) -> None:
        while self._here.connections:
            _, connection = self._here.connections.popitem()
            connection.close()
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(connection))

    def weigh(self, row: Stored) -> int:
        return len(row.message.body) if row.is_eager else 0

    def _prepare(self, using: str) -> bool:
        """Have the thread's own connection in order, as a request has; return False if there is none."""
        connection = connections[using]
        if using not in self._here.connections:
            # Never freed in the child of a fork without Python's hooks (uWSGI): it would close the parent's.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            self._here.connections[using] = connection
        try:
            # An age of 0 is for requests: the thread keeps its connection as long as there is work.
            if connection.errors_occurred or connection.settings_dict["CONN_MAX_AGE"]:
                connection.close_if_unusable_or_obsolete()
            if not connection.get_autocommit():
                connection.set_autocommit(True)
        except Error as error:
            logger.warning("using=%s state=left-to-relay reason=%s", using, type(error).__name__)
            return False
        return True


eager = Eager()


def _sends_here(rows: Iterable[Stored]) -> bool:
    """Tell whether the thread of the caller is to send: a test looks for the messages there, at once."""
    if runs_tests() or brokers.are_replaced:
        return True
    return any(_is_in_memory(connections[using]) for using in {each.using for each in rows})


def _is_in_memory(connection: Any) -> bool:
    """Tell whether each thread has a database of its own."""
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())
