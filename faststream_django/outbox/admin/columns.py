"""How one value of a message looks in the admin."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from faststream_django.outbox.durations import spoken
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.selecting import word_for

__all__ = ["age", "badge", "block", "destination", "due", "moment"]

_NOTES = {State.RETRYING: "first of its key", State.HOLDING: "holds its key"}


def badge(message: OutboxMessage) -> SafeString:
    word, note = word_for(message.state), _NOTES.get(State(message.state), "")
    return format_html(
        '<span class="outbox-state outbox-{}">{}</span>{}',
        word,
        word,
        format_html(' <span class="outbox-note">{}</span>', note) if note else "",
    )


def age(created_at: Any, now: Any) -> SafeString:
    return _time(created_at, spoken((now - created_at).total_seconds()))


def due(message: OutboxMessage, now: Any) -> str | SafeString:
    """Return when the next attempt is due; nothing where there is none, or no waiting."""
    moment: Any = message.due
    if moment is None or word_for(message.state) != "waiting":
        return "-"
    seconds = (moment - now).total_seconds()
    return _time(moment, f"in {spoken(seconds)}" if seconds > 0 else "now")


def moment(value: Any, now: Any) -> str | SafeString:
    """Return a moment in full, and how far it is away."""
    if value is None:
        return "-"
    seconds = (value - now).total_seconds()
    away = f"in {spoken(seconds)}" if seconds > 0 else f"{spoken(-seconds)} ago"
    return format_html('{} <span class="outbox-note">{}</span>', _full(value), away)


def destination(message: OutboxMessage) -> str | SafeString:
    if not message.exchange:
        return message.routing_key
    return format_html(
        '<span class="outbox-note">{} →</span> {}', message.exchange, message.routing_key or "(no key)"
    )


def block(text: str) -> SafeString:
    return format_html('<pre class="outbox-block">{}</pre>', text)


def _time(value: datetime, text: str) -> SafeString:
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', value.isoformat(timespec="seconds"), _full(value), text
    )


def _full(value: datetime) -> str:
    here = timezone.localtime(value)
    return f"{date_format(here, 'SHORT_DATE_FORMAT')} {here:%H:%M:%S}"
