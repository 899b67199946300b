"""Dead letters for the eyes of operators and programs: never a body, unless it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.sweeping import Outcome
from faststream_django.outbox.durations import spoken
from faststream_django.outbox.printing import cut, printable
from faststream_django.outbox.showing import hidden, shown_body

__all__ = ["HEADINGS", "as_cells", "as_json", "in_full", "outcome_as_json", "properties_of", "report"]

HEADINGS = ("ID", "FAILED", "ATTEMPTS", "REASON", "ERROR")
PROPERTIES = (
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "timestamp",
    "message_type",
    "app_id",
)


def as_json(letter: Letter) -> dict[str, Any]:
    """Return what a program needs to decide; no header and no body."""
    failed_at = letter.failed_at
    return {
        "id": letter.id,
        "queue": letter.queue,
        "failed_at": None if failed_at is None else failed_at.isoformat(),
        "attempts": letter.attempts,
        "reason": letter.reason,
        "error": letter.error,
        "bytes": len(letter.message.body),
    }


def as_cells(letter: Letter) -> tuple[str, ...]:
    """Return the cells of a line of the table."""
    age = letter.age(datetime.now(UTC))
    cells = (
        letter.id,
        "-" if age is None else f"{spoken(age)} ago",
        str(letter.attempts or "-"),
        letter.reason or "-",
        cut(letter.error, 100),
    )
    return tuple(map(printable, cells))


def in_full(letter: Letter, redact: Collection[str], *, with_body: bool) -> dict[str, Any]:
    """Return everything about a letter; what `redact` names is hidden."""
    shown = {
        **as_json(letter),
        "exchange": letter.message.exchange,
        "routing_key": letter.message.routing_key,
        "properties": properties_of(letter),
        "headers": hidden(letter.message.headers, redact),
    }
    if with_body:
        shown["body"] = shown_body(letter.message.body, redact)
    return shown


def properties_of(letter: Letter) -> dict[str, str]:
    """Return the basic properties that the message has, without its headers."""
    values = ((name, getattr(letter.message.properties, name)) for name in PROPERTIES)
    return {name: str(value) for name, value in values if value is not None}


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """Return what a program needs to know of a sweep."""
    return {**asdict(outcome), "reasons": dict(outcome.reasons), "is_complete": outcome.is_complete}


def report(outcome: Outcome, verb: str) -> list[str]:
    """Say what came of a sweep, and what to do about the rest; the first line is the result."""
    queue, count = outcome.queue, outcome.count
    lines = [f"{verb} {outcome.done:,} of {_letters(count)} of {queue!r}"]
    if outcome.is_stopped:
        lines.append("Stopped early: what is left lies where it was. Run it again to go on.")
    if outcome.problem:
        lines.append(f"Stopped early: {outcome.problem}. What is left lies where it was.")
    lines += [f"{printable(name)} was left alone: {why}" for name, why in outcome.reasons]
    if (more := outcome.left_alone - len(outcome.reasons)) > 0:
        lines.append(f"{more:,} more were left alone")
    lines += [f"{printable(name)} is not among them" for name in outcome.missing]
    lines += [
        f"{printable(name)} may be in its queue, in the dead letters, or in both: the broker did not say"
        for name in outcome.uncertain
    ]
    lines += [f"{printable(name)} IS LOST: neither queue took it" for name in outcome.lost]
    return lines


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count:,} dead letters"
