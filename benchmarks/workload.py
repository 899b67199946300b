"""What every contender of a scenario does in one round."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Literal

__all__ = ["MARK", "Way", "Work", "Workload", "encode"]

Way = Literal["threads", "tasks", "bulk", "commits", "backlog", "arrivals", "consume"]
Work = Literal["noop", "insert", "wait"]

MARK = "Earl Grey"
"""In every body, also in those with an envelope: the harness looks for it in the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`calls` calls of `count` messages each; where threads or tasks publish, one call is one message."""

    way: Way
    count: int = 1
    calls: int = 1
    at_once: int = 1
    """Threads, tasks, or the messages that may be in flight or handled together."""
    pause: float = 0.0
    """Seconds between two calls, where nothing of one is to be under way during the next."""
    handler_seconds: float = 0.0
    """How long the handler of a request takes."""
    size: int = 100
    """Bytes of the JSON body."""
    is_encoded: bool = False
    work: Work = "noop"
    """What a handler does, where messages are consumed."""
    is_async: bool = False
    """Whether handlers are coroutines, where the contender has them."""
    label: str = ""
    """Tells the workloads of one scenario apart."""

    @property
    def total(self) -> int:
        return self.count * self.calls

    @property
    def message(self) -> Any:
        """The dict whose JSON has `size` bytes, or that JSON."""
        order = {"id": 1, "item": MARK, "quantity": 2, "note": ""}
        order["note"] = "x" * (self.size - len(encode(order)))
        return encode(order) if self.is_encoded else order

    def messages(self) -> Iterator[Any]:
        """The messages of one call."""
        return repeat(self.message, self.count)

    def scaled(self, share: float) -> Workload:
        """The same for a slow contender: fewer messages, the same for each thread."""
        if share == 1:
            return self
        if self.way in ("bulk", "backlog", "consume"):
            return replace(self, count=max(1, int(self.count * share)))
        if self.way == "commits":
            return replace(self, calls=max(1, int(self.calls * share)))
        each = max(2, int(self.calls * share / self.at_once))
        return replace(self, calls=each * self.at_once)


def encode(message: Any) -> bytes:
    """Return the body of a message, for clients that leave this to their user."""
    return message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":")).encode()
