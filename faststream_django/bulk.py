"""The bookkeeping of a publish of many messages, for both doors: what was sent, what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from faststream_django.backends.base import Delivery
from faststream_django.exceptions import (
    BrokerUnavailable,
    ConnectionLost,
    InvalidMessage,
    PublishError,
    PublishTimeout,
)
from faststream_django.messages import Message

__all__ = ["Bulk", "BulkResult", "Chunk", "Item"]

Item = Message | InvalidMessage

# Some chunks are under way while the next is encoded: memory stays constant and the line stays busy.
CHUNKS_UNDER_WAY = 4
CHUNK_MESSAGES = 128
CHUNK_BYTES = 8 * 1024 * 1024
# A caller who sends everything to a missing queue hears of it before the errors fill the memory.
MOST_ERRORS = 1000
# The deadlines are put off with the first verdict after so many seconds, or this part of the timeout: a timer
# for each message would cost more than the message.
PROGRESS_STEP, PROGRESS_PART = 0.05, 0.05


@dataclass(slots=True)
class Chunk:
    """Some messages that travel together; written on the loop thread, read by the caller's."""

    deliveries: dict[int, Delivery] = field(default_factory=dict)
    errors: dict[int, PublishError] = field(default_factory=dict)
    settled: int = 0
    size: int = 0
    previous: Chunk | None = None
    all_begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set on the loop once each message has its place in the line: the next chunk may follow."""
    all_settled: asyncio.Event = field(default_factory=asyncio.Event)
    deadlines: set[asyncio.Timeout] = field(default_factory=set)
    """Those of every chunk of the bulk that is under way: progress of one is progress of all."""
    _put_off_at: float = 0.0

    @property
    def is_full(self) -> bool:
        return len(self.deliveries) >= CHUNK_MESSAGES or self.size >= CHUNK_BYTES

    def add(self, index: int, delivery: Delivery) -> None:
        delivery.index = index
        self.deliveries[index] = delivery
        self.size += len(delivery.message.body)

    async def in_turn(self) -> None:
        """Wait until the chunk before has taken its place."""
        previous, self.previous = self.previous, None
        if previous is not None:
            await previous.all_begun.wait()

    def settle(self, delivery: Delivery, error: PublishError | None) -> None:
        """Note a verdict; the next may take as long as the timeout."""
        if error is not None:
            self.errors[delivery.index] = error
        self.settled += 1
        if self.settled == len(self.deliveries):
            self.all_settled.set()
        now = time.monotonic()
        if now - self._put_off_at >= min(PROGRESS_STEP, delivery.timeout * PROGRESS_PART):
            self._put_off_at = now
            self._put_off(delivery.timeout)

    def _put_off(self, timeout: float) -> None:
        until = asyncio.get_running_loop().time() + timeout
        for deadline in self.deadlines:
            if not deadline.expired():
                deadline.reschedule(until)

    def patience(self, seconds: float) -> Iterator[float]:
        """Yield how long to wait, again as long as messages were settled meanwhile."""
        settled = -1
        while settled != self.settled:
            settled = self.settled
            yield seconds

    def unsettled(self) -> Iterator[tuple[int, Delivery]]:
        for index, delivery in self.deliveries.items():
            if not delivery.confirmed and index not in self.errors:
                yield index, delivery


@dataclass(slots=True)
class BulkResult:
    """What came of a bulk. `stopped_at`: index of the first message that was not even tried, if any."""

    confirmed: int = 0
    errors: dict[int, PublishError] = field(default_factory=dict)
    stopped_at: int | None = None


class Bulk:
    """Cuts items into chunks and adds up what came of them."""

    def __init__(self, alias: str, timeout: float = 0.0) -> None:
        self.result = BulkResult()
        self._alias = alias
        self._timeout = timeout
        self._count = 0
        self._chunk = Chunk()
        self._is_lost = False

    def feed(self, item: Item) -> Chunk | None:
        """Take one item; return a chunk when one is full."""
        index = self._count
        self._count += 1
        if isinstance(item, InvalidMessage):
            self.result.errors[index] = item
            return None
        self._chunk.add(index, Delivery(item, self._alias, self._timeout))
        return self._take() if self._chunk.is_full else None

    def rest(self) -> Chunk | None:
        """Return what was fed since the last full chunk, unless the bulk was stopped before it."""
        if not self._chunk.deliveries or self.result.stopped_at is not None:
            return None
        return self._take()

    def settle(self, chunk: Chunk) -> Chunk:
        self.result.errors.update(chunk.errors)
        self.result.confirmed += len(chunk.deliveries) - len(chunk.errors)
        self._is_lost = self._is_lost or any(
            isinstance(error, BrokerUnavailable | ConnectionLost | PublishTimeout)
            for error in chunk.errors.values()
        )
        return chunk

    @property
    def is_broken(self) -> bool:
        """Whether it is useless to go on: the connection fails, or nearly everything does."""
        return self._is_lost or len(self.result.errors) > MOST_ERRORS

    def stop(self) -> None:
        """Note that the items from here on are not tried, nor those that wait for their chunk to fill."""
        self.result.stopped_at = min(self._chunk.deliveries, default=self._count)

    def _take(self) -> Chunk:
        chunk, self._chunk = self._chunk, Chunk()
        self._chunk.previous = chunk
        self._chunk.deadlines = chunk.deadlines
        return chunk
