"""Refuses what would block a running event loop, as Django's function of that name does."""

from __future__ import annotations

import asyncio

from django.core.exceptions import SynchronousOnlyOperation

__all__ = ["refuse_event_loop"]


def refuse_event_loop() -> None:
    """Raise SynchronousOnlyOperation in a running event loop, which would stand still meanwhile."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SynchronousOnlyOperation("declare() would block this event loop: await adeclare().")
