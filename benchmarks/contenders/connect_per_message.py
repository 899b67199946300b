"""The recipe that works from a view without anything else: a FastStream broker for each message."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from faststream.rabbit import Channel, RabbitBroker

from benchmarks.contenders.base import BlockingContender, Publish


class ConnectPerMessage(BlockingContender):
    def publisher(self) -> Publish:
        return async_to_sync(self._apublish)

    async def _apublish(self, message: Any) -> None:
        async with RabbitBroker(
            self.url, default_channel=Channel(on_return_raises=True), logger=None
        ) as broker:
            await broker.publish(message, self.queue, persist=True, mandatory=True)
