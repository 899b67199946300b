"""System checks of the inbox: whether what idempotent handlers need is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.db import connections, router

from faststream_django.exceptions import InboxNotReady
from faststream_django.inbox.tables import APP, missing_table, now_in
from faststream_django.inbox.uses import Use, installed_uses

__all__ = ["check_idempotent_handlers", "check_inbox_tables"]


def check_idempotent_handlers(**kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001  Django passes more
    """Check what idempotent handlers need of the settings; nothing connects."""
    return [message for use in installed_uses() for message in _check(use)]


def check_inbox_tables(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Check the table in the databases that are named, where an idempotent handler writes to it."""
    if not databases or not apps.is_installed(APP):
        return []
    return [
        CheckWarning(
            f"The database {using!r} has no table {table!r}: every message of an @idempotent handler fails.",
            hint=f"Run 'manage.py migrate faststream_inbox --database {using}' before the worker starts.",
            id="faststream_django.W013",
        )
        for using in sorted({use.using for use in installed_uses()}.intersection(databases))
        if _is_allowed(using) and (table := missing_table(using))
    ]


def _check(use: Use) -> Iterator[CheckMessage]:
    place = f"@idempotent(using={use.using!r}) of {use.handler}()"
    if use.publishes:
        yield CheckWarning(
            f"What {use.handler}() returns is published after its message was recorded as handled: if that "
            "fails, or the process dies in between, nobody publishes it again.",
            hint="Leave out @publisher; publish in the handler, with publish_on_commit() and the outbox.",
            id="faststream_django.W014",
        )
    if not apps.is_installed(APP):
        yield Error(
            f"{place} needs the app {APP!r}, which is not installed.",
            hint=f"Add {APP!r} to INSTALLED_APPS, then run 'manage.py migrate'.",
            id="faststream_django.E006",
        )
    elif use.using not in connections:
        yield Error(
            f"{place} names no database in DATABASES.",
            hint=f"Name one of {', '.join(map(repr, connections))}.",
            id="faststream_django.E007",
        )
    elif not _is_allowed(use.using):
        yield Error(
            f"{place}: the routers in DATABASE_ROUTERS allow the table of the inbox not there.",
            hint="Let allow_migrate() return None or True for the app 'faststream_inbox' in that database.",
            id="faststream_django.E007",
        )
    else:
        yield from _check_engine(use.using, place)


def _check_engine(using: str, place: str) -> Iterator[CheckMessage]:
    try:
        now_in(connections[using])
    except InboxNotReady as error:
        yield Error(
            f"{place} cannot work: {error}",
            hint="Use PostgreSQL, MySQL, MariaDB or SQLite for what handles messages.",
            id="faststream_django.E008",
        )


def _is_allowed(using: str) -> bool:
    from faststream_django.inbox.models import HandledMessage

    return bool(router.allow_migrate_model(using, HandledMessage))
