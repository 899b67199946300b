"""Looking at dead letters, which stay where they are."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from faststream_django.backends.operating import OperationRefused, OperatorSession
from faststream_django.conf.entries import BrokerSettings
from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.queues import dead_letter_queue
from faststream_django.dead_letters.sessions import operator_session

__all__ = ["Shelf", "count_letters", "find_letter", "look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The dead letters of a queue, as far as somebody looked."""

    queue: str
    count: int
    """How many there are."""
    letters: tuple[Letter, ...]
    """Those at the head, in their order: what a replay takes first."""


async def count_letters(settings: BrokerSettings, queues: Iterable[str]) -> dict[str, int]:
    """Count the dead letters of each queue that has a place for them."""
    counts: dict[str, int] = {}
    async with operator_session(settings) as session:
        for queue in queues:
            count = await session.count(dead_letter_queue(queue))
            if count is not None:
                counts[queue] = count
    return counts


async def look(settings: BrokerSettings, queue: str, limit: int) -> Shelf:
    """Return the first dead letters of a queue; raise OperationRefused if it has no place for them."""
    async with operator_session(settings) as session:
        count = await existing(session, queue)
        async with aclosing(_letters(session, queue, min(count, limit))) as letters:
            return Shelf(queue=queue, count=count, letters=tuple([each async for each in letters]))


async def find_letter(
    settings: BrokerSettings, queues: Iterable[str], letter_id: str, most: int | None = None
) -> Letter | None:
    """Return the first dead letter with this id, of those that were there at the start.

    With `most`, look at no more than so many of each queue.
    """
    async with operator_session(settings) as session:
        for queue in queues:
            count = await session.count(dead_letter_queue(queue))
            count = min(count or 0, most if most is not None else sys.maxsize)
            async with aclosing(_letters(session, queue, count)) as letters:
                async for letter in letters:
                    if letter.id == letter_id:
                        return letter
    return None


async def existing(session: OperatorSession, queue: str) -> int:
    """Return how many dead letters a queue has; raise OperationRefused if it has no place for them."""
    name = dead_letter_queue(queue)
    count = await session.count(name)
    if count is None:
        raise OperationRefused(
            f"there is no queue {name!r}: nothing of {queue!r} was ever dead, or the name is wrong"
        )
    return count


async def _letters(session: OperatorSession, queue: str, most: int) -> AsyncGenerator[Letter, None]:
    """Yield dead letters from the head on; they lie there again when this ends."""
    if not most:
        return
    channel = await session.open_channel()
    try:
        for _ in range(most):
            message = await channel.take(dead_letter_queue(queue))
            if message is None:
                return
            yield Letter(queue=queue, message=message)
    finally:
        await channel.close()
