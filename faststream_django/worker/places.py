"""The place that a handler occupies while it runs, among those that run at once."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["leave_place", "note_place"]

_leave: ContextVar[Callable[[], None] | None] = ContextVar("faststream_django_leave_place", default=None)


def note_place(leave: Callable[[], None]) -> None:
    """Note how the handler of this task gives up its place; called at most once."""
    _leave.set(leave)


def leave_place() -> None:
    """Let another handler run: that of this task has ended, and only its message is not settled yet."""
    leave = _leave.get()
    if leave is not None:
        _leave.set(None)
        leave()
