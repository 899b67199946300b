"""Rows as a list shows them: what operators need to decide, and never a body or a header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from faststream_django.outbox.durations import spoken
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.printing import cut, printable
from faststream_django.outbox.selecting import Selection, database_now, word_for

__all__ = ["COLUMNS", "as_row", "listed"]

COLUMNS = (
    "ID",
    "MESSAGE ID",
    "STATE",
    "AGE",
    "ATTEMPTS",
    "DUE",
    "BROKER",
    "DESTINATION",
    "KEY",
    "LAST ERROR",
)
_HIDDEN = ("body", "properties")


def listed(using: str, chosen: Selection | Iterable[int]) -> Iterator[dict[str, Any]]:
    """Yield what is shown of each row, the oldest first."""
    now = database_now(using)
    batches = chosen.batches(using, 500) if isinstance(chosen, Selection) else [list(chosen)]
    for ids in batches:
        for row in OutboxMessage.objects.using(using).filter(pk__in=ids).defer(*_HIDDEN).order_by("pk"):
            yield _shown(row, now)


def as_row(shown: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a line of the table."""
    due = shown["due_in_seconds"]
    destination = shown["queue"] if not shown["exchange"] else f"{shown['exchange']}/{shown['queue']}"
    cells = (
        str(shown["id"]),
        shown["message_id"],
        shown["state"],
        spoken(shown["age_seconds"]),
        str(shown["attempts"]),
        "" if due is None else "now" if due <= 0 else f"in {spoken(due)}",
        shown["broker"],
        destination,
        shown["ordering_key"],
        cut(shown["last_error"], 80),
    )
    return tuple(map(printable, cells))


def _shown(row: OutboxMessage, now: datetime) -> dict[str, Any]:
    due = None if row.due is None else round((_moment(row.due) - now).total_seconds(), 3)
    word = word_for(row.state)
    return {
        "id": row.pk,
        "message_id": row.message_id,
        "state": word,
        "age_seconds": round(max(0.0, (now - _moment(row.created_at)).total_seconds()), 3),
        "attempts": row.attempts,
        "due_in_seconds": due if word == "waiting" else None,
        "broker": row.broker,
        "exchange": row.exchange,
        "queue": row.routing_key,
        "ordering_key": row.ordering_key,
        "last_error": row.last_error,
    }


def _moment(value: Any) -> datetime:
    moment: datetime = value  # a float to the type checker, which sees a FloatField
    return moment
