"""The bookkeeping of a publish of many messages, for both doors: what was sent, what came of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from faststream_django.backends.base import Publication
from faststream_django.exceptions import (
    BrokerUnavailable,
    ConnectionLost,
    InvalidMessage,
    PublishError,
    PublishTimeout,
)
from faststream_django.messages.message import Message

__all__ = ["Bulk", "BulkResult", "Chunk", "Item"]

Item = Message | InvalidMessage

# Some chunks are under way while the next is encoded: memory stays constant and the line stays busy.
CHUNKS_UNDER_WAY = 4
CHUNK_MESSAGES = 128
CHUNK_BYTES = 8 * 1024 * 1024
# A caller who sends everything to a missing queue hears of it before the errors fill the memory.
MOST_ERRORS = 1000
# Each error holds its message, so that their bodies count too.
MOST_ERROR_BYTES = 64 * 1024 * 1024
# The deadlines are put off with the first verdict after so many seconds, or this part of the timeout: a timer
# for each message would cost more than the message.
PROGRESS_STEP, PROGRESS_PART = 0.05, 0.05
# After these it is useless to go on.
LOST = (BrokerUnavailable, ConnectionLost, PublishTimeout)


@dataclass(slots=True)
class Chunk:
    """Some messages that travel together; written on the loop thread, read by the caller's.

    The caller's thread only appends to `publications`, and the loop begins them in that order. So what is
    there may leave, while the source is slow, before the chunk is handed over for good.
    """

    publications: list[Publication] = field(default_factory=list)
    errors: dict[int, PublishError] = field(default_factory=dict)
    """By the index of the message in the bulk."""
    begun: int = 0
    settled_count: int = 0
    announced: int = 0
    """How many of its messages the receivers of the signals have heard of."""
    size: int = 0
    previous: Chunk | None = None
    call: Any = None
    """The call that delivers it to the end, once it is handed over."""
    is_early: bool = False
    """Written by the loop: some of it leaves before the chunk is handed over."""
    is_dropped: bool = False
    """Written by the caller: it is not to leave, unless some of it has."""
    is_lost: bool = False
    """The connection failed for one of its messages."""
    beginning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its messages take their places in the line."""
    all_begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set on the loop once each message has its place in the line: the next chunk may follow."""
    _all_settled: asyncio.Event = field(default_factory=asyncio.Event)
    timers: set[asyncio.Timeout] = field(default_factory=set)
    """Those of every chunk of the bulk that is under way: progress of one is progress of all."""
    _put_off_at: float = 0.0

    def add(self, index: int, publication: Publication) -> bool:
        """Take one more message; return whether the chunk is full."""
        publication.index = index
        self.size += len(publication.message.body)
        self.publications.append(publication)
        return len(self.publications) >= CHUNK_MESSAGES or self.size >= CHUNK_BYTES

    def leave_early(self) -> bool:
        """Tell, on the loop, whether something waits that may leave before the chunk is handed over.

        Here and in drop() each thread writes its own flag, then reads the other's, so at least one of
        them sees both: a message that leaves is never counted as one that was not tried.
        """
        if self.begun == len(self.publications) or self.beginning.locked():
            return False
        self.is_early = True
        return not self.is_dropped

    def drop(self) -> bool:
        """Keep the chunk, in the caller's thread; return False if some of it has left."""
        self.is_dropped = True
        return not self.is_early

    async def in_turn(self) -> None:
        """Wait until the chunk before has taken its place."""
        if self.previous is not None:
            await self.previous.all_begun.wait()
            self.previous = None

    async def begun_settled(self) -> None:
        """Wait until there is a verdict on each message that has begun."""
        while self.settled_count < self.begun:
            self._all_settled.clear()
            await self._all_settled.wait()

    def settle(self, publication: Publication, error: PublishError | None) -> None:
        """Note a verdict; the next may take as long as the timeout."""
        if error is not None:
            self.errors[publication.index] = error
            self.is_lost = self.is_lost or isinstance(error, LOST)
        self.settled_count += 1
        if self.settled_count >= self.begun:
            self._all_settled.set()
        now = time.monotonic()
        if now - self._put_off_at >= min(PROGRESS_STEP, publication.timeout * PROGRESS_PART):
            self._put_off_at = now
            self._put_off(publication.timeout)

    def _put_off(self, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        for timer in self.timers:
            if not timer.expired():
                timer.reschedule(deadline)

    def timeouts(self, timeout: float) -> Iterator[float]:
        """Yield how long to wait, again as long as messages were settled meanwhile."""
        settled_count = -1
        while settled_count != self.settled_count:
            settled_count = self.settled_count
            yield timeout

    def unsettled(self) -> list[Publication]:
        """Return the messages that are neither confirmed nor failed."""
        return [each for each in self.publications if not each.confirmed and each.index not in self.errors]


@dataclass(slots=True)
class BulkResult:
    """What came of a bulk. `stopped_at`: index of the first message that was not even tried, if any."""

    confirmed: int = 0
    errors: dict[int, PublishError] = field(default_factory=dict)
    stopped_at: int | None = None


class Bulk:
    """Cuts items into chunks and adds up what came of them.

    What was fed is in `under_way` or in the open chunk at any moment, so that Ctrl-C loses sight of nothing.
    """

    def __init__(self, alias: str, timeout: float = 0.0) -> None:
        self.result = BulkResult()
        self.under_way: deque[Chunk] = deque()
        """The chunks that were cut and are not settled, in their order."""
        self.is_fed = False
        """No more items come."""
        self.early: set[asyncio.Task[None]] = set()
        """What delivers parts of the open chunk."""
        self._alias = alias
        self._timeout = timeout
        self._caller = object()
        self._count = 0
        self._chunk = Chunk()
        self._is_lost = False
        self._error_bytes = 0

    def chunks(self, items: Iterable[Item]) -> Iterator[Chunk]:
        """Yield each chunk that is full, and the rest at the end, also where the iterable raises."""
        try:
            for item in items:
                if chunk := self.feed(item):
                    yield chunk
                elif self.is_fed:
                    break
        except GeneratorExit:  # whoever took the chunks has gone
            raise
        except BaseException:
            if chunk := self.rest():
                yield chunk
            raise
        if chunk := self.rest():
            yield chunk

    async def achunks(self, items: AsyncIterable[Item]) -> AsyncIterator[Chunk]:
        """See chunks()."""
        try:
            async for item in items:
                if chunk := self.feed(item):
                    yield chunk
                elif self.is_fed:
                    break
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException:
            if chunk := self.rest():
                yield chunk
            raise
        if chunk := self.rest():
            yield chunk

    def feed(self, item: Item) -> Chunk | None:
        """Take one item; return a chunk when one is full. Stop instead when it is useless to go on."""
        if self.is_broken:
            self.stop()
            return None
        index = self._count
        self._count += 1
        if isinstance(item, InvalidMessage):
            self.result.errors[index] = item
            return None
        publication = Publication(item, self._alias, self._timeout, caller=self._caller)
        return self._take() if self._chunk.add(index, publication) else None

    def rest(self) -> Chunk | None:
        """Return what was fed since the last full chunk, unless the bulk was stopped before it left."""
        self.is_fed = True
        chunk = self._chunk
        if not chunk.publications or (chunk.is_dropped and not chunk.is_early):
            return None
        return self._take()

    def settle(self, chunk: Chunk) -> Chunk:
        """Add up what came of the first chunk that is under way."""
        self.result.errors.update(chunk.errors)
        self.result.confirmed += len(chunk.publications) - len(chunk.errors)
        self._error_bytes += sum(len(error.message.body) for error in chunk.errors.values() if error.message)
        self._is_lost = self._is_lost or any(isinstance(error, LOST) for error in chunk.errors.values())
        self.under_way.popleft()
        chunk.call = None  # which refers to the chunk
        return chunk

    @property
    def is_broken(self) -> bool:
        """Whether it is useless to go on: the connection fails, or nearly everything does."""
        return (
            self._is_lost
            or self._chunk.is_lost
            or len(self.result.errors) > MOST_ERRORS
            or self._error_bytes > MOST_ERROR_BYTES
        )

    def stop(self) -> None:
        """Note that the items from here on are not tried, nor those that wait for their chunk to fill."""
        self.is_fed = True
        waiting = self._chunk.publications if self._chunk.drop() else []
        self.result.stopped_at = waiting[0].index if waiting else self._count

    def abandon(self) -> None:
        """Drop what is under way, for a caller who does not wait for it."""
        self.stop()
        self._chunk = Chunk()
        while self.under_way:
            chunk = self.under_way.popleft()
            if chunk.call is not None:
                chunk.call.cancel()

    def take_early(self) -> Chunk | None:
        """Return the open chunk, on the loop, if something waits in it."""
        chunk = self._chunk
        return chunk if chunk.leave_early() else None

    def _take(self) -> Chunk:
        chunk, following = self._chunk, Chunk()
        following.previous, following.timers = chunk, chunk.timers
        self.under_way.append(chunk)
        self._chunk = following
        return chunk
