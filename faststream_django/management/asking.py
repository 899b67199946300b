"""Asks before a command destroys something."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from django.core.management.base import CommandError

if TYPE_CHECKING:
    from django.core.management.base import OutputWrapper

__all__ = ["NOT_DONE", "USAGE", "ask"]

NOT_DONE, USAGE = 1, 2


def ask(output: OutputWrapper, question: str) -> None:
    """Ask whoever sits there; raise CommandError if the answer is no, or nobody can answer."""
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nobody can answer here: pass --yes if you mean it.", returncode=USAGE)
    output.write(f"{question} [y/N] ", ending="")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError("Nothing was deleted.", returncode=NOT_DONE)
