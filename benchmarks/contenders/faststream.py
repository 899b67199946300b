"""FastStream as an asynchronous program uses it: no Django, no threads, one loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from faststream.rabbit import Channel, RabbitBroker

from benchmarks.contenders.base import LoopContender


class FastStream(LoopContender):
    async def aopen(self) -> None:
        # Nobody runs the loop between the rounds: seconds without a heartbeat.
        self._broker = RabbitBroker(
            f"{self.url}?heartbeat=600", default_channel=Channel(on_return_raises=True), logger=None
        )
        await self._broker.connect()

    async def apublish(self, message: Any) -> None:
        await self._broker.publish(message, self.queue, persist=True, mandatory=True)

    async def aclose(self) -> None:
        await self._broker.stop()


class FastStreamGathered(FastStream):
    """A task for each message, all at once: the obvious way to publish many."""

    async def apublish_all(self) -> list[float]:
        message = self.workload.message
        started = time.perf_counter()
        await asyncio.gather(*(self.apublish(message) for _ in range(self.workload.total)))
        return [time.perf_counter() - started]
