"""Sends the messages of a bulk while the next are made: two doors to the courier on the loop thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from faststream_django.connection.bulk import CHUNKS_UNDER_WAY, Bulk, BulkResult, Chunk, Item
from faststream_django.connection.errors import unanswered
from faststream_django.loop.calls import GRACE, LoopStalled, LoopStopped
from faststream_django.loop.thread import LoopThread

if TYPE_CHECKING:
    from faststream_django.connection.connection import Connection

__all__ = ["Pipeline"]

# Seconds after which the messages of a bulk leave although the source has not filled their chunk.
EARLY_AFTER = 0.05


class Pipeline:
    """The way of one bulk: some chunks are under way while the next is filled."""

    def __init__(self, connection: Connection, loop: LoopThread, timeout: float) -> None:
        self._connection = connection
        self._loop = loop
        self._timeout = timeout
        self._bulk = Bulk(connection.settings.alias, timeout)

    def send(self, items: Iterable[Item], on_settled: Callable[[Chunk], None]) -> BulkResult:
        """See Connection.send_many()."""
        bulk = self._bulk
        try:
            if not isinstance(items, list):
                self._loop.submit(self._watch, EARLY_AFTER)
            for chunk in bulk.chunks(items):
                chunk.call = self._loop.submit(self._deliver, chunk)
                if len(bulk.under_way) >= CHUNKS_UNDER_WAY:
                    self._wait(on_settled)
            self._wait_for_rest(on_settled)
        except BaseException:
            try:
                self._wait_for_rest(on_settled)
            except BaseException:
                bulk.abandon()
                raise
            raise
        return bulk.result

    async def asend(
        self, items: AsyncIterable[Item], on_settled: Callable[[Chunk], Awaitable[None]]
    ) -> BulkResult:
        """See Connection.asend_many()."""
        bulk = self._bulk
        # Without a wake of the loop thread for a bulk that is done before.
        timer = asyncio.get_running_loop().call_later(EARLY_AFTER, self._loop.asubmit, self._watch, 0.0)
        try:
            async for chunk in bulk.achunks(items):
                chunk.call = self._loop.asubmit(self._deliver, chunk)
                if len(bulk.under_way) >= CHUNKS_UNDER_WAY:
                    await on_settled(await self._await())
        except (KeyboardInterrupt, asyncio.CancelledError):
            bulk.abandon()
            raise
        finally:
            timer.cancel()
            bulk.rest()
            while bulk.under_way:
                await on_settled(await self._await())
        return bulk.result

    def _wait_for_rest(self, on_settled: Callable[[Chunk], None]) -> None:
        self._bulk.rest()
        while self._bulk.under_way:
            self._wait(on_settled)

    def _wait(self, on_settled: Callable[[Chunk], None]) -> None:
        """Wait for the first chunk that is under way, as long as it makes progress."""
        chunk = self._bulk.under_way[0]
        # None if an exception came before it was handed over.
        chunk.call = chunk.call or self._loop.submit(self._deliver, chunk)
        with self._giving_up(chunk):
            for seconds in chunk.timeouts(self._timeout + GRACE):
                with suppress(LoopStalled):
                    chunk.call.wait(seconds)
                    break
            else:
                raise LoopStalled
        on_settled(chunk)
        self._bulk.settle(chunk)  # last: Ctrl-C may come at any line above, and all may be repeated

    async def _await(self) -> Chunk:
        """See _wait()."""
        chunk = self._bulk.under_way[0]
        chunk.call = chunk.call or self._loop.asubmit(self._deliver, chunk)
        with self._giving_up(chunk):
            for seconds in chunk.timeouts(self._timeout + GRACE):
                with suppress(LoopStalled):
                    await chunk.call.wait(seconds)
                    break
            else:
                raise LoopStalled
        return self._bulk.settle(chunk)

    @contextmanager
    def _giving_up(self, chunk: Chunk) -> Iterator[None]:
        """Tell each message what is known when the loop is silent."""
        try:
            yield
        except (LoopStalled, LoopStopped) as error:
            chunk.call.cancel()
            connected = self._connection.is_connected
            for publication in chunk.unsettled():
                chunk.errors[publication.index] = unanswered(publication, error, connected=connected)

    # From here on everything runs on the loop thread.

    async def _deliver(self, chunk: Chunk) -> None:
        # Counted from here: the first call in a process makes the backend, which imports the driver.
        deadline = asyncio.get_running_loop().time() + self._timeout
        await self._connection.courier_here().deliver_chunk(chunk, deadline)

    async def _watch(self, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay, self._deliver_early)

    def _deliver_early(self) -> None:
        """Deliver what waits in the open chunk, again and again, while the caller waits for its source."""
        bulk = self._bulk
        if bulk.is_fed:
            return
        loop = asyncio.get_running_loop()
        if chunk := bulk.take_early():
            try:
                courier = self._connection.courier_here()
            except Exception:  # noqa: BLE001 - told to the caller when the chunk is handed over
                return
            deadline = loop.time() + self._timeout
            task = loop.create_task(courier.deliver_chunk(chunk, deadline, early=True))
            bulk.early.add(task)
            task.add_done_callback(bulk.early.discard)
        loop.call_later(EARLY_AFTER, self._deliver_early)
