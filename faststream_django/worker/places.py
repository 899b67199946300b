"""The place that a handler occupies while it runs, among those that run at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["is_moved", "leave_place", "note_moved", "note_place", "pause"]


@dataclass(slots=True)
class _Place:
    leave: Callable[[], None]
    stopping: asyncio.Event
    is_left: bool = False
    is_moved: bool = False


_place: ContextVar[_Place | None] = ContextVar("faststream_django_place", default=None)


def note_place(leave: Callable[[], None], stopping: asyncio.Event) -> None:
    """Note how this task gives up its place, and what is set when its worker stops."""
    _place.set(_Place(leave, stopping))


def leave_place() -> None:
    """Let another handler run: that of this task has ended. May be called several times."""
    place = _place.get()
    if place is not None and not place.is_left:
        place.is_left = True
        place.leave()


def note_moved() -> None:
    """Note that the message of this task lies in another queue, from where it may come back as it is."""
    if place := _place.get():
        place.is_moved = True


def is_moved() -> bool:
    """Tell whether the message of this task lies in another queue."""
    place = _place.get()
    return place is not None and place.is_moved


async def pause(seconds: float) -> None:
    """Wait, but no longer than until the worker stops."""
    place = _place.get()
    stopping = asyncio.Event() if place is None else place.stopping
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
