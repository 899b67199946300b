"""Replay: dead letters go back to the queue that they come from, each exactly once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from faststream_django.backends.operating import (
    NotMoved,
    OperationRefused,
    OperatorChannel,
    OperatorSession,
    Unwritable,
)
from faststream_django.conf.entries import BrokerSettings
from faststream_django.conf.topology import QueueSettings
from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.rescue import put_back
from faststream_django.dead_letters.sweeping import Sweep
from faststream_django.exceptions import BrokerUnavailable

__all__ = ["Replay"]


@dataclass(frozen=True, slots=True)
class _Target:
    """A queue to replay to."""

    exists: bool
    is_atomic: bool
    """Whether transactions may be used."""


class Replay(Sweep):
    """Moves the dead letters of a queue back to where they were consumed, or to another queue.

    They leave one after the other, in their order. Each is published, confirmed and then deleted: if the
    process is killed in between, that one is there twice. Where the target is known to allow it, only the
    first one is, and those that follow are moved by transactions.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        queue: str,
        *,
        declared: Mapping[str, QueueSettings] | None = None,
        to: str | None = None,
        ids: Collection[str] | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(settings, queue, ids=ids, limit=limit, timeout=timeout)
        self._declared = declared or {}
        self._to = to
        self._targets: dict[str, _Target] = {}

    async def _treat(self, session: OperatorSession, channel: OperatorChannel, letter: Letter) -> bool:
        target = self._to or letter.origin
        if target is None:
            self._leave(letter, "nothing in its headers names the queue that it comes from: pass --to")
            return False
        if target == self._source:
            self._fail(f"the dead letters in {target!r} would go to {target!r} itself: pass --to")
            return False
        known = await self._known(session, target)
        if not known.exists:
            self._fail(f"there is no queue {target!r} to replay to")
            return False
        try:
            if known.is_atomic and self.outcome.done:
                await self._move(session, channel, letter, target)
            else:
                await self._publish(session, channel, letter, target)
        except Unwritable as error:
            self._leave(letter, str(error))
            return False
        return True

    async def _known(self, session: OperatorSession, queue: str) -> _Target:
        """Return what is known of a target; it is asked about once."""
        if queue not in self._targets:
            declared = self._declared.get(queue)
            exists = await session.count(queue) is not None
            is_atomic = exists and declared is not None and await session.moves_atomically(declared)
            self._targets[queue] = _Target(exists, is_atomic)
        return self._targets[queue]

    async def _publish(
        self, session: OperatorSession, channel: OperatorChannel, letter: Letter, target: str
    ) -> None:
        fresh = replace(letter.message, properties=letter.fresh_properties(target))
        try:
            await session.put(fresh, target)
        except Unwritable:
            raise
        except OperationRefused as error:
            self._fail(f"queue {target!r} refuses: it is full, or gone ({error})")
            return
        except BrokerUnavailable:
            self.outcome.uncertain.append(letter.id)
            raise
        self.outcome.done += 1
        await channel.delete(letter.message)

    async def _move(
        self, session: OperatorSession, channel: OperatorChannel, letter: Letter, target: str
    ) -> None:
        try:
            await channel.move(letter.message, target, letter.fresh_properties(target))
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
