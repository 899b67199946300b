"""Whether a broker still answers, which an open connection does not tell."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faststream_django.worker.consumer import Consumer

__all__ = ["Probe"]

INTERVAL = 1.0
"""Seconds between an answer and the next question."""
PATIENCE = 2.0
"""Seconds without an answer after which the broker counts as lost.

A link can be dead without a sign for as long as the heartbeat allows; a probe is told sooner.
"""


class Probe:
    """Asks the broker of a consumer again and again."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self._asked_at = float("inf")

    @property
    def is_ready(self) -> bool:
        """Whether it is consuming, and the broker answers."""
        return self.consumer.is_consuming and time.monotonic() < self._asked_at + PATIENCE

    async def run(self) -> None:
        while True:
            if self.consumer.is_consuming:
                self._asked_at = time.monotonic()
                # Never cancelled, lest the driver close the channel: it ends with its connection.
                await self.consumer.probe()
                self._asked_at = float("inf")
            await asyncio.sleep(INTERVAL)
