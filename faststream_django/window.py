"""Limits what is in flight in one process, by count and by bytes."""

from __future__ import annotations

import asyncio

from faststream_django.backends.base import Delivery
from faststream_django.conf import BrokerSettings
from faststream_django.exceptions import TooManyInFlight

__all__ = ["Window"]

# Bodies of unconfirmed messages that a process holds at most, besides the count MAX_IN_FLIGHT.
MAX_IN_FLIGHT_BYTES = 64 * 1024 * 1024


class Window:
    """Limits what is in flight, by count and by bytes."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._most = settings.max_in_flight
        self._count = 0
        self._bytes = 0
        self._changed = asyncio.Event()

    def admit(self, delivery: Delivery) -> None:
        if self._is_full():
            raise TooManyInFlight(
                f"message {delivery.message.message_id} was not sent: this process already waits for "
                f"{self._count} confirms ({self._bytes} bytes) of broker {delivery.broker!r}. The broker "
                "is slow or away; raise MAX_IN_FLIGHT only if memory allows.",
                message_id=delivery.message.message_id,
                broker=delivery.broker,
            )
        self._add(delivery)

    async def admit_when_possible(self, delivery: Delivery) -> None:
        while self._is_full():
            await self._change()
        self._add(delivery)

    def release(self, delivery: Delivery) -> None:
        self._count -= 1
        self._bytes -= len(delivery.message.body)
        self._changed.set()

    async def emptied(self) -> None:
        while self._count:
            await self._change()

    def _is_full(self) -> bool:
        return self._count >= self._most or self._bytes >= MAX_IN_FLIGHT_BYTES

    def _add(self, delivery: Delivery) -> None:
        self._count += 1
        self._bytes += len(delivery.message.body)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
