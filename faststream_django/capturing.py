"""What the test kit rests on: a stand-in for every connection, and a view on what waits for a commit."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.bulk import Bulk, BulkResult, Chunk, Item
from faststream_django.conf import BrokerSettings
from faststream_django.connection import aignore, ignore
from faststream_django.exceptions import PublishError
from faststream_django.messages import Message
from faststream_django.on_commit import Pending
from faststream_django.outgoing import Outgoing
from faststream_django.registry import brokers

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
    """What was published while it is open, in that order.

    Tests run in a transaction that never commits. A message of publish_on_commit() in it counts as
    published once every block that the code under test opened around it has ended.
    """

    def __init__(self, *, counts_waiting: bool) -> None:
        # By id, with the object, so that no id is used again. dict operations are atomic.
        self._seen: dict[int, tuple[Outgoing, bool]] = {}
        """With each, whether it was sent; else it waits, and counts while it is released."""
        self._forgotten: dict[int, Outgoing] = {}
        self._counts_waiting = counts_waiting
        self._beginnings = {
            connection: _open_blocks(connection) for connection in connections.all(initialized_only=True)
        }
        """The blocks of the test itself, around the capture; also of the other threads seen."""
        self.clear()

    def record(self, outgoing: Outgoing) -> None:
        self._released()  # they were published before this one
        self._seen[id(outgoing)] = outgoing, True

    def published(self) -> list[Outgoing]:
        released = self._released()
        return [each for key, (each, is_sent) in tuple(self._seen.items()) if is_sent or key in released]

    def clear(self) -> None:
        self._forgotten.update(self._released())
        self._seen.clear()

    def end(self) -> None:
        """Keep what counts by now, whatever becomes of its transaction."""
        self._seen = {id(each): (each, True) for each in self.published()}
        self._counts_waiting = False

    def waiting(self, *, released: bool = False) -> list[Outgoing]:
        """Return what waits for a block to end that is still open, or what is released from all."""
        if not self._counts_waiting:
            return []
        found: list[Outgoing] = []
        for connection in connections.all(initialized_only=True):
            self._beginnings.setdefault(connection, set())
        for connection, beginning in tuple(self._beginnings.items()):
            waiting = list(_waiting_on(connection))  # first, lest its block be missed in another thread
            opened = _open_blocks(connection) - beginning
            found += [each for blocks, each in waiting if opened.isdisjoint(blocks) is released]
        return [each for each in found if id(each) not in self._forgotten]

    def _released(self) -> dict[int, Outgoing]:
        released = {id(each): each for each in self.waiting(released=True)}
        for key, each in released.items():
            self._seen.setdefault(key, (each, False))
        return released


_captures: list[Capture] = []

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
