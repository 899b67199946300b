"""What operators ask and do: counts, retry, discard, prune. Shared by the admin and the command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypedDict

from django.db import connections, transaction
from django.db.models import Case, QuerySet, SmallIntegerField, Value, When
from django.db.models.expressions import RawSQL

from faststream_django.conf.entries import valid_brokers
from faststream_django.outbox.engines import clock
from faststream_django.outbox.fields import MomentField
from faststream_django.outbox.models import Lease, OutboxMessage, State
from faststream_django.outbox.selecting import (
    DEAD,
    WORDS,
    Selection,
    brokers_in,
    database_now,
    in_index,
)
from faststream_django.outbox.wakeup import notify

__all__ = [
    "BrokerStats",
    "discard",
    "outbox_aliases",
    "prunable",
    "retry",
    "rows_named",
    "stats",
]

BATCH = 1000
"""The most rows of one statement: no lock is held for long, and a relay works on in between."""


class BrokerStats(TypedDict):
    """What waits for one broker in one database."""

    ready: int
    waiting: int
    dead: int
    oldest_age_seconds: float | None
    """For how long the oldest message that could have left has been due; None: there is none."""
    leader: str | None
    """The relay that sends, by its own name; None: no relay holds the lease."""
    lease_age_seconds: float | None
    """How long ago a relay showed signs of life; None: never."""


def stats(using: str, *, most: int | None = None) -> dict[str, BrokerStats]:
    """Return what waits for each broker; with `most`, count no further than to one more than that."""
    now = database_now(using)
    leases = {lease.broker: lease for lease in Lease.objects.using(using)}
    return {
        broker: _stats(using, broker, leases.get(broker), now, most)
        for broker in sorted({*outbox_aliases(), *brokers_in(using), *leases})
    }


def rows_named(using: str, name: str) -> list[int]:
    """Return the rows with this id, or else those with this message id."""
    rows = OutboxMessage.objects.using(using).order_by()
    if name.isascii() and name.isdigit() and int(name) < 2**63:
        found = list(rows.filter(pk=int(name)).values_list("pk", flat=True))
        if found:
            return found
    return sorted(rows.filter(message_id=name).values_list("pk", flat=True))


def retry(using: str, chosen: Selection | Iterable[int]) -> int:
    """Have dead messages sent again as if for the first time; return how many there were."""
    now = RawSQL(clock(connections[using]), [], output_field=MomentField())  # noqa: S611
    # Never ready again, since the relay need not look back; and with a key, ahead of its later messages.
    state = Case(
        When(ordering_key="", then=Value(State.WAITING)),
        default=Value(State.RETRYING),
        output_field=SmallIntegerField(),
    )
    count, brokers = 0, set[str]()
    for rows in _batches(using, chosen, DEAD):
        brokers.update(rows.order_by().values_list("broker", flat=True).distinct())
        count += rows.update(state=state, due=now, attempts=0)
    _wake(using, brokers)
    return count


def discard(using: str, chosen: Selection | Iterable[int]) -> int:
    """Delete messages for good; return how many there were.

    One that a relay has already taken out of the database may still be sent.
    """
    states = (chosen.states if isinstance(chosen, Selection) else ()) or tuple(State)
    count, brokers = 0, set[str]()
    for rows in _batches(using, chosen, states):
        # What a dead message held back may now leave.
        holding = rows.filter(state__in=(State.RETRYING, State.HOLDING))
        brokers.update(holding.order_by().values_list("broker", flat=True).distinct())
        count += rows._raw_delete(using)  # noqa: SLF001
    _wake(using, brokers)
    return count


def prunable(older_than: float, *, queue: str | None = None, broker: str | None = None) -> Selection:
    """Return what has been dead for so many seconds; what holds back a key stays until somebody decides."""
    return Selection(states=(State.DEAD,), dead_for=older_than, queue=queue, broker=broker)


def outbox_aliases() -> list[str]:
    """Return the brokers whose messages the settings have stored; a wrong entry is left out."""
    return [each.alias for each in valid_brokers() if each.uses_outbox]


def _stats(using: str, broker: str, lease: Lease | None, now: datetime, most: int | None) -> BrokerStats:
    counts = {
        word: Selection(states=states, broker=broker).count(using, most) for word, states in WORDS.items()
    }
    seen = None if lease is None or lease.seen_at.timestamp() <= 0 else lease.seen_at
    leads = lease is not None and bool(lease.holder) and lease.expires_at > now
    return {
        "ready": counts["ready"],
        "waiting": counts["waiting"],
        "dead": counts["dead"],
        "oldest_age_seconds": _oldest_age(using, broker, now),
        "leader": lease.holder if lease is not None and leads else None,
        "lease_age_seconds": None if seen is None else round(max(0.0, (now - seen).total_seconds()), 3),
    }


def _oldest_age(using: str, broker: str, now: datetime) -> float | None:
    rows = OutboxMessage.objects.using(using)
    ready = in_index(rows, broker, State.READY, "id").order_by("broker", "state", "id")
    due: list[Any] = list(ready.values_list("created_at", flat=True)[:1])
    for state in WORDS["waiting"]:
        waiting = in_index(rows, broker, state, "due", below=now.timestamp())
        due += waiting.order_by("broker", "state", "due").values_list("due", flat=True)[:1]
    return round(max(0.0, (now - min(due)).total_seconds()), 3) if due else None


def _batches(
    using: str, chosen: Selection | Iterable[int], states: tuple[State, ...]
) -> Iterator[QuerySet[OutboxMessage]]:
    """Yield the rows, in statements of their own size; each asks again for the state that is meant."""
    if isinstance(chosen, Selection):
        batches: Iterable[list[int]] = chosen.batches(using, BATCH)
    else:
        ids = sorted(set(chosen))
        batches = (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
    for batch in batches:
        yield OutboxMessage.objects.using(using).filter(pk__in=batch, state__in=states)


def _wake(using: str, brokers: set[str]) -> None:
    if brokers:
        transaction.on_commit(lambda: notify(using, sorted(brokers)), using=using)
