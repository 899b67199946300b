"""Limits what is in flight in one process, by count and by bytes."""

from __future__ import annotations

import asyncio

from faststream_django.backends.base import Publication
from faststream_django.conf.entries import BrokerSettings
from faststream_django.exceptions import BrokerUnavailable, TooManyInFlight

__all__ = ["Window"]

# Bodies of unconfirmed messages that a process holds at most, besides the count MAX_IN_FLIGHT.
MAX_IN_FLIGHT_BYTES = 64 * 1024 * 1024
# The part that publishes of many may fill together: they wait for room, and single messages do not.
PART_OF_BULKS = 0.75


class Window:
    """Holds what is in flight, and keeps it below the limits."""

    def __init__(
        self, settings: BrokerSettings, awaited: str = "confirms", whoever: str = "The broker is"
    ) -> None:
        self._awaited, self._whoever = awaited, whoever
        self._most = settings.max_in_flight
        self._most_of_bulks = max(1, int(self._most * PART_OF_BULKS))
        self._flying: set[Publication] = set()
        self._bytes = 0
        self._count_of_bulks = 0
        self._bytes_of_bulks = 0
        self._waiting = 0
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def count(self) -> int:
        return len(self._flying)

    def admit(self, publication: Publication) -> None:
        """Take a single message; raise TooManyInFlight if there is no room."""
        if self._is_full():
            raise TooManyInFlight(
                f"message {publication.message.message_id} was not sent: this process already waits for "
                f"{self.count} {self._awaited} ({self._bytes} bytes) of broker {publication.broker!r}. "
                f"{self._whoever} slow or away; raise MAX_IN_FLIGHT only if memory allows.",
                message_id=publication.message.message_id,
                broker=publication.broker,
                message=publication.message,
            )
        self._add(publication)

    def admit_of_bulk(self, publication: Publication) -> bool:
        """Take a message of a bulk, or return False if there is no room; see room_for_bulk()."""
        if self._is_closed or self._is_full() or self._is_full_of_bulks():
            return False
        self._add(publication)
        publication.is_of_bulk = True
        self._count_of_bulks += 1
        self._bytes_of_bulks += len(publication.message.body)
        return True

    async def room_for_bulk(self) -> None:
        """Wait until something was released; raise BrokerUnavailable once closed."""
        self._waiting += 1
        try:
            if not self._is_closed:
                await self._change()
        finally:
            self._waiting -= 1
        if self._is_closed:
            raise BrokerUnavailable("the connection was stopped")

    def release(self, publication: Publication) -> None:
        size = len(publication.message.body)
        self._flying.discard(publication)
        self._bytes -= size
        if publication.is_of_bulk:
            self._count_of_bulks -= 1
            self._bytes_of_bulks -= size
        self._changed.set()

    async def emptied(self) -> None:
        """Wait until nothing is in flight, nor waits for room."""
        while self._flying or self._waiting:
            await self._change()

    def close(self) -> list[Publication]:
        """Admit no more of a bulk; return what is still in flight."""
        self._is_closed = True
        self._changed.set()
        return list(self._flying)

    def _is_full(self) -> bool:
        return len(self._flying) >= self._most or self._bytes >= MAX_IN_FLIGHT_BYTES

    def _is_full_of_bulks(self) -> bool:
        return (
            self._count_of_bulks >= self._most_of_bulks
            or self._bytes_of_bulks >= MAX_IN_FLIGHT_BYTES * PART_OF_BULKS
        )

    def _add(self, publication: Publication) -> None:
        self._flying.add(publication)
        self._bytes += len(publication.message.body)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
