"""What is done with a message, the same in every framework."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.consuming.assignment import assignment
from benchmarks.consuming.tally import Tally

__all__ = ["HELD", "HOLDING", "RELEASED", "WAIT", "handler"]

WAIT = 0.02
"""Seconds, of a handler that waits for something else."""
HOLDING = {"quantity": 0}
"""What is different in a message whose handler does not end until it is released."""
HELD, RELEASED = "held", "released"
"""The files that tell so."""
_PAUSE = 0.01  # seconds between two looks


def handler() -> Callable[[dict[str, Any]], Any]:
    """Return the function that handles a message, as this process is assigned."""
    told = assignment()
    folder, count = told.folder, Tally(told.folder).add
    if told.is_async:
        return _async_handlers(folder, count)[told.work]
    return _handlers(folder, count)[told.work]


def _handlers(folder: Path, count: Callable[[], None]) -> dict[str, Callable[[dict[str, Any]], None]]:
    def noop(message: dict[str, Any]) -> None:
        if not message["quantity"]:
            _hold(folder)
        count()

    def wait(message: dict[str, Any]) -> None:
        if not message["quantity"]:
            _hold(folder)
        time.sleep(WAIT)
        count()

    def insert(message: dict[str, Any]) -> None:
        from benchmarks.orders.models import Order

        if not message["quantity"]:
            _hold(folder)
        Order.objects.create(item=message["item"], quantity=message["quantity"])
        count()

    return {"noop": noop, "wait": wait, "insert": insert}


def _async_handlers(folder: Path, count: Callable[[], None]) -> dict[str, Callable[[dict[str, Any]], Any]]:
    async def noop(message: dict[str, Any]) -> None:
        if not message["quantity"]:
            await _ahold(folder)
        count()

    async def wait(message: dict[str, Any]) -> None:
        if not message["quantity"]:
            await _ahold(folder)
        await asyncio.sleep(WAIT)
        count()

    return {"noop": noop, "wait": wait}


def _hold(folder: Path) -> None:
    (folder / HELD).touch()
    while not (folder / RELEASED).exists():
        time.sleep(_PAUSE)


async def _ahold(folder: Path) -> None:
    (folder / HELD).touch()
    while not (folder / RELEASED).exists():  # noqa: ASYNC110 - a file has no event
        await asyncio.sleep(_PAUSE)
