"""Going through the dead letters of one queue, from the oldest to the last that was there at the start."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field

from faststream_django.backends.operating import OperationRefused, OperatorChannel, OperatorSession
from faststream_django.conf.entries import BrokerSettings
from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.queues import dead_letter_queue
from faststream_django.dead_letters.reading import existing
from faststream_django.dead_letters.sessions import operator_session
from faststream_django.exceptions import BrokerUnavailable

__all__ = ["Outcome", "Sweep"]

NAMED = 20
"""The most letters whose ids are kept of those that were left alone: there may be any number."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a sweep."""

    queue: str
    count: int = 0
    """How many there were when it began."""
    done: int = 0
    """How many were replayed or discarded."""
    left_alone: int = 0
    """How many could not be, each for a reason of its own; they are where they were."""
    reasons: list[tuple[str, str]] = field(default_factory=list)
    """The id and the reason of the first of them."""
    missing: list[str] = field(default_factory=list)
    """The ids that were asked for and not found."""
    uncertain: list[str] = field(default_factory=list)
    """The ids of which nobody knows whether they are in their target, in the dead letters, or in both."""
    lost: list[str] = field(default_factory=list)
    """The ids that no queue took: neither the target, nor that of the dead letters."""
    problem: str = ""
    """Why it ended early."""
    is_stopped: bool = False
    """Somebody stopped it, or its time was over."""

    @property
    def is_complete(self) -> bool:
        """Whether everything was done that was asked for."""
        incomplete = self.left_alone or self.missing or self.uncertain or self.lost or self.problem
        return not incomplete and not self.is_stopped


class Sweep(ABC):
    """Takes letter after letter and decides about each; those that it holds go back at the end.

    Safe to stop at any moment, and to run again.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        queue: str,
        *,
        ids: Collection[str] | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self.outcome = Outcome(queue=queue)
        self._settings = settings
        self._queue = queue
        self._source = dead_letter_queue(queue)
        self._wanted = None if ids is None else set(ids)
        self._limit = limit
        self._timeout = timeout
        self._deadline: float | None = None
        self._untaken = self._allowed = 0
        self._is_stopping = False

    def stop(self) -> None:
        """Have it take no more; what is under way is finished. From any thread, also in a signal handler."""
        self._is_stopping = True

    async def run(self) -> Outcome:
        """Go through the letters; raise BrokerUnavailable or OperationRefused if that cannot begin."""
        if self._timeout is not None:
            self._deadline = time.monotonic() + self._timeout
        async with operator_session(self._settings) as session:
            self.outcome.count = self._untaken = await existing(session, self._queue)
            self._allowed = self._untaken if self._limit is None else self._limit
            await self._sweep(session)
        if not self.outcome.problem and not self.outcome.is_stopped:
            self.outcome.missing = sorted(self._wanted or ())
        return self.outcome

    @abstractmethod
    async def _treat(self, session: OperatorSession, channel: OperatorChannel, letter: Letter) -> bool:
        """Do it; return whether it counts against the limit. What is not done stays held."""

    async def _finish(self, channel: OperatorChannel) -> None:  # noqa: ARG002
        """Do what was put off, before the channel is closed: here, nothing."""
        return

    async def _sweep(self, session: OperatorSession) -> None:
        channel = await session.open_channel()
        try:
            while self._may_go_on():
                self._untaken -= 1
                message = await channel.take(self._source)
                if message is None:
                    break
                letter = Letter(queue=self._queue, message=message)
                if self._claims(letter) and await self._treat(session, channel, letter):
                    self._allowed -= 1
            await self._finish(channel)
            await channel.settle()
        except (BrokerUnavailable, OperationRefused) as error:
            self._fail(str(error))
        finally:
            await channel.close()

    def _may_go_on(self) -> bool:
        is_over = self.outcome.problem or self._wanted == set()
        if is_over or self._untaken <= 0 or self._allowed <= 0:
            return False
        self.outcome.is_stopped = self._is_stopping or (
            self._deadline is not None and time.monotonic() > self._deadline
        )
        return not self.outcome.is_stopped

    def _claims(self, letter: Letter) -> bool:
        """Tell whether this letter is asked for; one of each id is."""
        if self._wanted is None:
            return True
        is_wanted = letter.id in self._wanted
        self._wanted.discard(letter.id)
        return is_wanted

    def _leave(self, letter: Letter, reason: str) -> None:
        self.outcome.left_alone += 1
        if len(self.outcome.reasons) < NAMED:
            self.outcome.reasons.append((letter.id, reason))

    def _fail(self, problem: str) -> None:
        """Begin nothing more; the first reason is the one that counts."""
        self.outcome.problem = self.outcome.problem or problem
