"""Replay and discard: asked about on a page of their own, logged, and each with its permission."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest

from faststream_django.dead_letters import operating
from faststream_django.dead_letters.admin.asking import Place
from faststream_django.dead_letters.discarding import Discard
from faststream_django.dead_letters.models import DeadLetter
from faststream_django.dead_letters.queues import declared_queues
from faststream_django.dead_letters.replaying import Replay
from faststream_django.dead_letters.sweeping import Outcome, Sweep

__all__ = ["ACTIONS", "Action", "Chosen", "act"]

NAMED = 20
"""The most ids that a question, and an entry in the log, names."""
TIMEOUT = 15.0
"""Seconds after which an action stops, before the server gives the request up."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an action is about: letters by their ids, or the first so many of a queue."""

    ids: tuple[str, ...] = ()
    up_to: int | None = None

    @classmethod
    def of(cls, parameters: Any) -> Chosen:
        """Read it from a form."""
        up_to = parameters.get("up_to", "")
        if up_to.isascii() and up_to.isdigit():
            return cls(up_to=int(up_to))
        return cls(ids=tuple(dict.fromkeys(parameters.getlist("id"))))

    def __bool__(self) -> bool:
        return bool(self.ids or self.up_to)

    @property
    def count(self) -> int:
        return len(self.ids) if self.up_to is None else self.up_to

    @property
    def named(self) -> tuple[str, ...]:
        return self.ids[:NAMED]

    @property
    def more(self) -> int:
        return max(0, len(self.ids) - NAMED)

    @property
    def options(self) -> dict[str, Any]:
        return {"ids": self.ids} if self.up_to is None else {"limit": self.up_to}


@dataclass(frozen=True, slots=True)
class Action:
    """What can be done with dead letters."""

    name: str
    title: str
    question: str
    button: str
    verb: str
    make: Callable[..., Sweep]
    flag: int
    is_destructive: bool = False


def _replay(place: Place, **options: Any) -> Sweep:
    return Replay(place.settings, place.queue, declared=declared_queues(place.settings), **options)


def _discard(place: Place, **options: Any) -> Sweep:
    return Discard(place.settings, place.queue, **options)


ACTIONS = {
    each.name: each
    for each in (
        Action(
            "replay",
            "Replay dead letters",
            "They go back to the queue that they come from, and are handled as if for the first time.",
            "Replay",
            "Replayed",
            _replay,
            CHANGE,
        ),
        Action(
            "discard",
            "Discard dead letters",
            "They are deleted for good.",
            "Discard",
            "Discarded",
            _discard,
            DELETION,
            is_destructive=True,
        ),
    )
}


def act(action: Action, place: Place, chosen: Chosen, request: HttpRequest) -> Outcome:
    """Do it, and write an entry into the log of the admin."""
    outcome = operating.sweep(action.make(place, timeout=TIMEOUT, **chosen.options))
    about = ", ".join(chosen.named) + (f" and {chosen.more} more" if chosen.more else "")
    user_id: Any = request.user.pk
    LogEntry.objects.create(
        user_id=user_id,
        content_type=ContentType.objects.get_for_model(DeadLetter),
        object_repr=f"{action.verb} {outcome.done:,} dead letters of {place.queue} ({place.broker})"[:200],
        action_flag=action.flag,
        change_message=f"{action.button}: {about or 'the first ' + format(chosen.count, ',')}.",
    )
    return outcome
