"""Brokers that were away a moment ago: what comes for them is the relay's, not that of the process."""

from __future__ import annotations

import time
from collections.abc import Iterable

__all__ = ["RESTING", "Resting", "resting"]

RESTING = 5.0
"""Seconds for which a broker that was away is left to the relay, lest its messages hold up others."""


class Resting:
    """Those of this process; from any thread."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __contains__(self, alias: object) -> bool:
        return self._until.get(str(alias), 0.0) > time.monotonic()

    def add(self, aliases: Iterable[str]) -> None:
        self._until |= dict.fromkeys(aliases, time.monotonic() + RESTING)

    def clear(self) -> None:
        self._until.clear()


resting = Resting()
