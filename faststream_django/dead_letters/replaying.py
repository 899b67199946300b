"""Replay: dead letters go back to the queue that they come from, each exactly once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from faststream_django.backends.operating import (
    NotMoved,
    OperationRefused,
    OperatorChannel,
    OperatorSession,
)
from faststream_django.conf.entries import BrokerSettings
from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.rescue import put_back
from faststream_django.dead_letters.sweeping import Sweep
from faststream_django.exceptions import BrokerUnavailable

__all__ = ["Replay"]

WIDTH = 10
"""Transactions under way at once: an answer takes as long as the broker needs to write to its disk."""


class Replay(Sweep):
    """Moves the dead letters of a queue back to where they were consumed, or to another queue.

    The first one is published, confirmed and then deleted, so that nothing is ever nowhere because of a
    target that takes nothing. Those that follow are moved in transactions.
    """

    width = WIDTH

    def __init__(
        self,
        settings: BrokerSettings,
        queue: str,
        *,
        to: str | None = None,
        ids: Collection[str] | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(settings, queue, ids=ids, limit=limit, timeout=timeout)
        self._to = to
        self._targets: dict[str, str] = {}

    async def _treat(self, session: OperatorSession, channel: OperatorChannel, letter: Letter) -> bool:
        target = self._to or letter.origin
        if target is None:
            self._leave(letter, "nothing in its headers names the queue that it comes from: pass --to")
            return False
        if problem := await self._problem_of(session, target):
            self._fail(problem)
            return False
        if self.outcome.done:
            await self._move(session, channel, letter, target)
        else:
            await self._try(session, channel, letter, target)
        return True

    async def _problem_of(self, session: OperatorSession, target: str) -> str:
        """Return what is wrong with a target; it is asked about once."""
        if target == self._source:
            return f"the dead letters in {target!r} are to go to {target!r} itself: pass --to"
        if target not in self._targets:
            count = await session.count(target)
            self._targets[target] = "" if count is not None else f"there is no queue {target!r} to replay to"
        return self._targets[target]

    async def _try(
        self, session: OperatorSession, channel: OperatorChannel, letter: Letter, target: str
    ) -> None:
        fresh = replace(letter.message, properties=letter.fresh_properties())
        try:
            await session.put(fresh, target)
        except OperationRefused as error:
            self._fail(f"queue {target!r} refuses: it is full, or gone ({error})")
            return
        except BrokerUnavailable:
            self.outcome.uncertain.append(letter.id)
            raise
        try:
            await channel.delete(letter.message)
        except (BrokerUnavailable, OperationRefused):
            self.outcome.uncertain.append(letter.id)
            raise
        self.outcome.done += 1

    async def _move(
        self, session: OperatorSession, channel: OperatorChannel, letter: Letter, target: str
    ) -> None:
        try:
            await channel.move(letter.message, target, letter.fresh_properties())
        except NotMoved as error:
            self._fail(str(error))
            await self._put_back(session, letter, is_uncertain=error.is_uncertain)
        except BrokerUnavailable:
            self.outcome.uncertain.append(letter.id)
            raise
        else:
            self.outcome.done += 1

    async def _put_back(self, session: OperatorSession, letter: Letter, *, is_uncertain: bool) -> None:
        if reason := await put_back(self._settings, session, self._source, letter.message):
            self.outcome.lost.append(letter.id)
            self.outcome.problem += f"; {letter.id} could not be put back: {reason}"
        elif is_uncertain:
            self.outcome.uncertain.append(letter.id)
