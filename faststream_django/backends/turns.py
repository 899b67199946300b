"""Keeps the order of messages that middlewares look at, each for as long as it likes."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Turn", "Turns"]


class Turn:
    """The place of one message among those of its caller for one exchange."""

    __slots__ = ("came", "following", "is_over", "key")

    def __init__(self, key: tuple[Any, str]) -> None:
        self.key = key
        self.came = asyncio.Event()
        """Set once every earlier message has left, or never will."""
        self.is_over = False
        self.following: Turn | None = None


class Turns:
    """Lets the messages of one caller for one exchange leave in the order of the calls.

    Their middlewares run side by side; only the last step waits. A caller never waits for another's.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[Any, str], Turn] = {}

    def take(self, caller: object, exchange: str) -> Turn:
        key = caller, exchange
        turn, last = Turn(key), self._last.get(key)
        self._last[key] = turn
        if last is None:
            turn.came.set()
        else:
            last.following = turn
        return turn

    def end(self, turn: Turn) -> None:
        """Note that a message has left, or never will. May be told several times."""
        turn.is_over = True
        each: Turn | None = turn
        while each is not None and each.is_over and each.came.is_set():
            if self._last.get(each.key) is each:
                del self._last[each.key]
            each = each.following
            if each is not None:
                each.came.set()
