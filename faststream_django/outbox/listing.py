"""Rows as a list shows them: what operators need to decide, and never a body or a header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from faststream_django.outbox.durations import spoken
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.selecting import Selection, database_now, word_for

__all__ = ["as_row", "as_table", "listed", "printable"]

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
        _cut(shown["last_error"], 80),
    )
    return tuple(map(printable, cells))


def as_table(rows: Iterable[Sequence[str]], headings: Sequence[str] = COLUMNS) -> Iterator[str]:
    """Yield the lines of a table, a screen at a time, each column as wide as what it has held so far."""
    widths = [len(heading) for heading in headings]
    lines: list[Sequence[str]] = [headings]
    for row in rows:
        lines.append(row)
        if len(lines) >= 100:
            yield from _aligned(lines, widths)
            lines = []
    yield from _aligned(lines, widths)


def printable(text: str) -> str:
    """Return a text that does nothing to a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


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


def _aligned(lines: Iterable[Sequence[str]], widths: list[int]) -> Iterator[str]:
    lines = list(lines)
    for line in lines:
        widths[:] = [max(width, len(cell)) for width, cell in zip(widths, line, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
