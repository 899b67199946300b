"""What operators ask and do, for callers in threads: the command and the admin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar, TypeVarTuple

from faststream_django.conf.entries import BrokerSettings, broker_settings
from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.queues import declared_queues
from faststream_django.dead_letters.reading import Shelf, count_letters, find_letter, look
from faststream_django.dead_letters.replaying import Replay
from faststream_django.dead_letters.sweeping import Outcome, Sweep
from faststream_django.exceptions import BrokerUnavailable
from faststream_django.loop.calls import LoopStopped
from faststream_django.loop.thread import loop_thread

__all__ = ["counts", "find", "peek", "replay", "sweep"]

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


def counts(settings: BrokerSettings, queues: Iterable[str]) -> dict[str, int]:
    """Count the dead letters of each queue that has a place for them."""
    return _run(count_letters, settings, queues)


def peek(settings: BrokerSettings, queue: str, limit: int) -> Shelf:
    """Return the first dead letters of a queue; raise OperationRefused if it has no place for them."""
    return _run(look, settings, queue, limit)


def find(
    settings: BrokerSettings, queues: Iterable[str], letter_id: str, most: int | None = None
) -> Letter | None:
    """Return the first dead letter with this id; with `most`, look at no more than so many of each queue."""
    return _run(find_letter, settings, queues, letter_id, most)


def replay(
    queue: str, *, broker: str = "default", to: str | None = None, limit: int | None = None
) -> Outcome:
    """Have the dead letters of a queue handled again, the oldest first; return what came of it.

    As ``manage.py faststream_deadletters replay`` does, with the same promises; `to` is another queue to send
    them to. Raises BrokerUnavailable if no connection can be made within CONNECT_TIMEOUT.
    """
    settings = broker_settings(broker)
    return sweep(Replay(settings, queue, declared=declared_queues(settings), to=to, limit=limit))


def sweep(job: Sweep) -> Outcome:
    """Run a replay or a discard."""
    return _run(job.run)


def _run(operation: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run it on the loop thread. No time for the whole: each step has its own, and their number is known."""
    try:
        return loop_thread.run(operation, *args, timeout=None)
    except LoopStopped as error:
        raise BrokerUnavailable(str(error)) from None
