"""What the commands of operators share: exit codes, a question before something is destroyed, durations."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from django.core.management.base import CommandError
from django.db import connections, router

from faststream_django.outbox.durations import parse_duration

if TYPE_CHECKING:
    from django.core.management.base import OutputWrapper
    from django.db.models import Model

__all__ = ["INTERRUPTED", "NOT_DONE", "USAGE", "ask", "database_of", "duration"]

NOT_DONE, USAGE, INTERRUPTED = 1, 2, 130


def ask(output: OutputWrapper, question: str, otherwise: str = "Nothing was deleted.") -> None:
    """Ask whoever sits there; raise CommandError if the answer is no, or nobody can answer."""
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nobody can answer here: pass --yes if you mean it.", returncode=USAGE)
    output.write(f"{question} [y/N] ", ending="")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError(otherwise, returncode=NOT_DONE)


def database_of(model: type[Model], alias: str | None) -> str:
    """Return the database of this alias, or the one that the routers choose; raise CommandError if none."""
    using = alias or router.db_for_write(model)
    if using not in connections:
        known = ", ".join(map(repr, connections))
        raise CommandError(
            f"There is no database {using!r} in DATABASES; its aliases are {known}.", returncode=USAGE
        )
    return str(using)


def duration(text: str) -> float:
    """Read the seconds of an option, such as 30s or 7d."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
