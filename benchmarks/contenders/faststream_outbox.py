"""faststream-outbox: a SQLAlchemy table, and a FastStream subscriber that publishes what it reads."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from faststream.rabbit import Channel, RabbitBroker
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.contenders.backlog import BacklogContender, Watch

_FILLED_AT_ONCE = 1000


class FastStreamOutbox(BacklogContender):
    """With its defaults: one worker, ten rows at a time."""

    settings: ClassVar[dict[str, Any]] = {}

    def open(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._aopen())

    def fill(self, count: int) -> None:
        self._runner.run(self._afill(count))

    def relay(self) -> Watch:
        return self._runner.run(self._arelay())

    def close(self) -> None:
        self._runner.run(self._aclose())
        self._runner.close()

    async def _aopen(self) -> None:
        metadata = MetaData()
        self._table = make_outbox_table(metadata, table_name="outbox")
        workers = self.settings.get("max_workers", 1)
        self._engine = create_async_engine(
            self.addresses.database.replace("postgresql:", "postgresql+asyncpg:"), pool_size=workers + 2
        )
        async with self._engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        self._rabbit = RabbitBroker(
            f"{self.url}?heartbeat=600", default_channel=Channel(on_return_raises=True), logger=None
        )
        await self._rabbit.connect()

    async def _afill(self, count: int) -> None:
        broker = OutboxBroker(self._engine, outbox_table=self._table, logger=None)
        async with self._engine.begin() as connection:
            for stored in range(0, count, _FILLED_AT_ONCE):
                bodies = [self.workload.message] * min(_FILLED_AT_ONCE, count - stored)
                await broker.publish_batch(*bodies, queue=self.queue, session=connection)

    async def _arelay(self) -> Watch:
        broker = OutboxBroker(self._engine, outbox_table=self._table, logger=None)
        publisher = self._rabbit.publisher(self.queue, persist=True, mandatory=True)

        @publisher
        @broker.subscriber(self.queue, **self.settings)
        async def relay(body: dict) -> dict:  # type: ignore[type-arg]
            return body

        watch, loop, done = Watch(), asyncio.get_running_loop(), asyncio.Event()
        await broker.start()
        watch.until_empty(
            self.addresses.database, "SELECT 1 FROM outbox", lambda: loop.call_soon_threadsafe(done.set)
        )
        await done.wait()
        await broker.stop()
        return watch

    async def _aclose(self) -> None:
        await self._rabbit.stop()
        await self._engine.dispose()


class FastStreamOutboxBest(FastStreamOutbox):
    """With the settings at which we found it fastest."""

    settings: ClassVar[dict[str, Any]] = {
        "max_workers": 20,
        "fetch_batch_size": 500,
        "terminal_flush_batch_size": 100,
        "min_fetch_interval": 0.01,
    }
