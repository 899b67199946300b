"""What the test kit rests on: a stand-in for every connection, and a view on what waits for a commit."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.brokers import brokers
from faststream_django.bulk import Bulk, BulkResult, Chunk, Item
from faststream_django.conf import BrokerSettings
from faststream_django.connection import aignore, ignore
from faststream_django.exceptions import PublishError
from faststream_django.messages import Message
from faststream_django.on_commit import Outgoing, Pending

__all__ = ["Capture", "Failure", "capturing"]

Failure = PublishError | type[PublishError]


@contextmanager
def capturing(fail_with: Failure | None) -> Iterator[Capture]:
    """Send through stand-ins, and show every capture that is open what they are given."""
    capture = Capture(counts_waiting=fail_with is None)
    _captures.append(capture)
    try:
        with brokers.replaced(lambda settings: _StandIn(settings, fail_with)):
            yield capture
    finally:
        _captures.remove(capture)
        capture.end()


class Capture:
    """What one capture has seen, in the order in which it was published."""

    def __init__(self, *, counts_waiting: bool) -> None:
        # By id, with the object, so that no id is used again. dict and set operations are atomic.
        self._seen: dict[int, Outgoing] = {}
        self._sent: set[int] = set()
        self._waiting = _Waiting() if counts_waiting else None

    def record(self, outgoing: Outgoing) -> None:
        self._released()  # they were published before this one
        self._seen[id(outgoing)] = outgoing
        self._sent.add(id(outgoing))

    def published(self) -> list[Outgoing]:
        counted = self._released() | self._sent
        return [each for key, each in tuple(self._seen.items()) if key in counted]

    def held(self) -> list[Outgoing]:
        """Return what waits for a block to end that is still open."""
        return self._waiting.look(released=False) if self._waiting else []

    def clear(self) -> None:
        if self._waiting is not None:
            self._waiting.forget(self._waiting.look(released=True))
        self._seen.clear()

    def end(self) -> None:
        """Keep what counts by now, whatever becomes of the transactions."""
        self._sent |= self._released()
        self._waiting = None

    def _released(self) -> set[int]:
        released = self._waiting.look(released=True) if self._waiting else []
        for outgoing in released:
            self._seen.setdefault(id(outgoing), outgoing)
        return {id(outgoing) for outgoing in released}


_captures: list[Capture] = []


class _Waiting:
    """The messages of publish_on_commit() that wait for a commit, here and in the other threads seen.

    Tests run in a transaction that never commits. A message in it counts as published once every block
    that the code under test opened around it has ended.
    """

    def __init__(self) -> None:
        # Of each connection, whether it was in a transaction when the capture began, and its savepoints.
        self._beginnings = {
            connection: (connection.in_atomic_block, frozenset(connection.savepoint_ids))
            for connection in connections.all(initialized_only=True)
        }
        self._known: dict[int, Outgoing] = {}
        self.forget(outgoing for connection in self._beginnings for _, outgoing in _waiting_on(connection))

    def look(self, *, released: bool) -> list[Outgoing]:
        """Return the messages that count as published, or those that do not yet."""
        for connection in connections.all(initialized_only=True):
            self._beginnings.setdefault(connection, (False, frozenset()))
        return [
            outgoing
            for connection, beginning in tuple(self._beginnings.items())
            for savepoints, outgoing in _waiting_on(connection)
            if id(outgoing) not in self._known
            and _is_released(connection, *beginning, savepoints=savepoints) is released
        ]

    def forget(self, outgoing: Iterable[Outgoing]) -> None:
        self._known.update((id(each), each) for each in outgoing)


def _waiting_on(connection: BaseDatabaseWrapper) -> Iterator[tuple[set[str], Outgoing]]:
    for savepoints, callback, *_ in tuple(connection.run_on_commit):
        if isinstance(callback, Pending) and not callback.is_sent:
            for outgoing in tuple(callback.outgoing):
                yield savepoints, outgoing


def _is_released(
    connection: BaseDatabaseWrapper,
    had_transaction: bool,  # noqa: FBT001
    had_savepoints: frozenset[str],
    *,
    savepoints: set[str],
) -> bool:
    """Tell whether no block is open around a message but those of the test itself."""
    blocks = tuple(connection.atomic_blocks)
    if blocks and not (had_transaction or _is_of_testcase(blocks[0])):
        return False
    # The innermost block has the last savepoint; the outermost one has none.
    pairs = zip(reversed(tuple(connection.savepoint_ids)), reversed(blocks), strict=False)
    opened = {savepoint for savepoint, block in pairs if not _is_of_testcase(block)}
    return not (savepoints & (opened - had_savepoints))


def _is_of_testcase(block: object) -> bool:
    return getattr(block, "_from_testcase", False)
