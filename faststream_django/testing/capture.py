"""What the test kit rests on: a record of what is published, and a view on what waits for a commit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.conf.entries import BrokerSettings, broker_settings
from faststream_django.connection.stand_in import StandIn
from faststream_django.messages.message import Message
from faststream_django.publishing.on_commit import Pending
from faststream_django.publishing.outgoing import Outgoing
from faststream_django.registry import brokers
from faststream_django.testing.failing import Failing
from faststream_django.testing.replying import NO_REPLY, make_reply

__all__ = ["Capture", "capturing"]


@contextmanager
def capturing(failing: Failing, reply_with: Any = NO_REPLY) -> Iterator[Capture]:
    """Send through stand-ins, and show every capture that is open what they are given.

    Requests are answered by the innermost capture that has a reply.
    """
    for alias in failing.aliases or ():
        broker_settings(alias)  # raises for an alias that does not exist
    capture = Capture(failing, reply_with)
    fail = failing.begin()

    def stand_in(settings: BrokerSettings) -> StandIn:
        def on_send(message: Message, timeout: float | None) -> None:
            fail(message, settings.alias)
            outgoing = Outgoing(message, settings.alias, timeout)
            for each in tuple(_captures):
                each.record(outgoing)

        replying = next((each for each in reversed(_captures) if each.reply_with is not NO_REPLY), None)
        if replying is None:
            return StandIn(settings, on_send)
        return StandIn(settings, on_send, partial(make_reply, replying.reply_with, settings.alias))

    _captures.append(capture)
    try:
        with brokers.replaced(stand_in):
            yield capture
    finally:
        _captures.remove(capture)
        capture.end()


class Capture:
    """What was published while it is open, in that order.

    Tests run in a transaction that never commits. A message of publish_on_commit() in it counts as
    published once every block that the code under test opened around it has ended.
    """

    def __init__(self, failing: Failing, reply_with: Any = NO_REPLY) -> None:
        self.reply_with = reply_with
        """What the requests get that are sent while it is open."""
        # By id, with the object, so that no id is used again. dict operations are atomic.
        self._seen: dict[int, tuple[Outgoing, bool]] = {}
        """With each, whether it was sent; else it waits, and counts while it is released."""
        self._forgotten: dict[int, Outgoing] = {}
        self._failing = failing
        """What might fail when it is sent does not count before."""
        self._has_ended = False
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
        self._has_ended = True

    def __deepcopy__(self, memo: dict[int, Any]) -> Capture:
        """Copy what is fixed, for TestCase.setUpTestData(); an open capture goes on seeing everything."""
        if not self._has_ended:
            return self
        copied = copy.copy(self)
        copied._seen = dict(self._seen)  # noqa: SLF001
        return copied

    def waiting(self, *, released: bool = False) -> list[Outgoing]:
        """Return what waits for a block to end that is still open, or what is released from all."""
        if self._has_ended:
            return []
        found: list[Outgoing] = []
        for connection in connections.all(initialized_only=True):
            self._beginnings.setdefault(connection, set())
        for connection, beginning in tuple(self._beginnings.items()):
            waiting = list(_waiting_on(connection))  # first, lest its block be missed in another thread
            opened = _open_blocks(connection) - beginning
            found += [each for blocks, each in waiting if opened.isdisjoint(blocks) is released]
        return [
            each
            for each in found
            if id(each) not in self._forgotten and not self._failing.applies_to(each.broker)
        ]

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
