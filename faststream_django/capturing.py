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
        # By id, with the object, so that no id is used again. dict operations are atomic.
        self._seen: dict[int, tuple[Outgoing, bool]] = {}
        """With each, whether it was sent; else it waits, and counts while it is released."""
        self._waiting = _Waiting() if counts_waiting else None

    def record(self, outgoing: Outgoing) -> None:
        self._released()  # they were published before this one
        self._seen[id(outgoing)] = outgoing, True

    def published(self) -> list[Outgoing]:
        released = self._released()
        return [
            outgoing for key, (outgoing, is_sent) in tuple(self._seen.items()) if is_sent or key in released
        ]

    def held(self) -> list[Outgoing]:
        """Return what waits for a block that is still open."""
        return self._waiting.look(released=False) if self._waiting else []

    def clear(self) -> None:
        if self._waiting is not None:
            self._waiting.forget(self._waiting.look(released=True))
        self._seen.clear()

    def end(self) -> None:
        """Keep what counts by now, whatever becomes of its transaction."""
        self._seen = {id(outgoing): (outgoing, True) for outgoing in self.published()}
        self._waiting = None

    def _released(self) -> set[int]:
        released = self._waiting.look(released=True) if self._waiting else []
        for outgoing in released:
            self._seen.setdefault(id(outgoing), (outgoing, False))
        return {id(outgoing) for outgoing in released}


_captures: list[Capture] = []


class _Waiting:
    """The messages of publish_on_commit() that wait for a commit, here and in the other threads seen.

    Tests run in a transaction that never commits. A message in it counts as published once every block
    that the code under test opened around it has ended.
    """

    def __init__(self) -> None:
        self._known: dict[int, Outgoing] = {}
        self._beginnings: dict[BaseDatabaseWrapper, set[str]] = {}
        """The blocks of the test itself around the capture, as _open_blocks() returned them."""
        for connection in connections.all(initialized_only=True):
            self._beginnings[connection] = _open_blocks(connection)
            self.forget(outgoing for _, outgoing in _waiting_on(connection))

    def look(self, *, released: bool) -> list[Outgoing]:
        """Return the messages that count as published, or those that do not yet."""
        found: list[Outgoing] = []
        for connection in connections.all(initialized_only=True):
            self._beginnings.setdefault(connection, set())
        for connection, beginning in tuple(self._beginnings.items()):
            waiting = list(_waiting_on(connection))  # first, lest its block be missed in another thread
            opened = _open_blocks(connection) - beginning
            found += [
                outgoing
                for blocks, outgoing in waiting
                if id(outgoing) not in self._known and opened.isdisjoint(blocks) is released
            ]
        return found

    def forget(self, outgoing: Iterable[Outgoing]) -> None:
        self._known.update((id(each), each) for each in outgoing)


# Blocks go by the names of their savepoints; the outermost one, which has none, goes by this.
_OUTERMOST = ""


def _waiting_on(connection: BaseDatabaseWrapper) -> Iterator[tuple[set[str], Outgoing]]:
    """Yield the messages that wait for the commit, each with the blocks around it."""
    for savepoints, callback, *_ in tuple(connection.run_on_commit):
        if isinstance(callback, Pending) and not callback.is_sent:
            for outgoing in tuple(callback.outgoing):
                yield {_OUTERMOST, *savepoints}, outgoing


def _open_blocks(connection: BaseDatabaseWrapper) -> set[str]:
    """Return the blocks that are open, but those that a TestCase opened."""
    names = [_OUTERMOST, *connection.savepoint_ids]
    pairs = zip(reversed(names), reversed(tuple(connection.atomic_blocks)), strict=False)
    return {name for name, block in pairs if not getattr(block, "_from_testcase", False)}


class _StandIn:
    """Stands in for the connection of one alias: confirms at once, or fails as it is told."""

    def __init__(self, settings: BrokerSettings, fail_with: Failure | None) -> None:
        self.settings = settings
        self._fail_with = fail_with

    def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def send(self, message: Message, timeout: float | None = None) -> None:
        if self._fail_with is not None:
            raise _failure(self._fail_with, message, self.settings.alias)
        outgoing = Outgoing(message, self.settings.alias, timeout)
        for capture in tuple(_captures):
            capture.record(outgoing)

    async def asend(self, message: Message, timeout: float | None = None) -> None:
        self.send(message, timeout)

    def send_many(
        self,
        items: Iterable[Item],
        timeout: float | None = None,
        settled: Callable[[Chunk], None] = ignore,
    ) -> BulkResult:
        bulk = Bulk(self.settings.alias)
        try:
            for item in items:
                if bulk.is_broken:
                    bulk.stop()
                    break
                if chunk := bulk.feed(item):
                    settled(bulk.settle(self._sent(chunk, timeout)))
        finally:
            if chunk := bulk.rest():
                settled(bulk.settle(self._sent(chunk, timeout)))
        return bulk.result

    async def asend_many(
        self,
        items: AsyncIterable[Item],
        timeout: float | None = None,
        settled: Callable[[Chunk], Awaitable[None]] = aignore,
    ) -> BulkResult:
        bulk = Bulk(self.settings.alias)
        try:
            async for item in items:
                if bulk.is_broken:
                    bulk.stop()
                    break
                if chunk := bulk.feed(item):
                    await settled(bulk.settle(self._sent(chunk, timeout)))
        finally:
            if chunk := bulk.rest():
                await settled(bulk.settle(self._sent(chunk, timeout)))
        return bulk.result

    def _sent(self, chunk: Chunk, timeout: float | None) -> Chunk:
        for index, delivery in chunk.deliveries.items():
            try:
                self.send(delivery.message, timeout)
            except PublishError as error:
                chunk.errors[index] = error
        return chunk


def _failure(fail_with: Failure, message: Message, broker: str) -> PublishError:
    """Make an error for one message: each caller gets an object of its own."""
    if isinstance(fail_with, PublishError):
        error = copy.copy(fail_with)
    else:
        error = fail_with(
            f"message {message.message_id} was not confirmed: "
            f"capture_messages(fail_with={fail_with.__name__}) simulates a failure."
        )
    error.message_id = error.message_id or message.message_id
    error.broker = error.broker or broker
    return error
