"""aio-pika as an asynchronous program uses it: a robust connection, one channel with confirms."""

from __future__ import annotations

from typing import Any

import aio_pika

from benchmarks.contenders.base import LoopContender
from benchmarks.workload import encode


class AioPika(LoopContender):
    async def aopen(self) -> None:
        self._connection = await aio_pika.connect_robust(f"{self.url}?heartbeat=600")
        channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        self._exchange = channel.default_exchange

    async def apublish(self, message: Any) -> None:
        await self._exchange.publish(
            aio_pika.Message(
                encode(message),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            self.queue,
            mandatory=True,
        )

    async def aclose(self) -> None:
        await self._connection.close()
