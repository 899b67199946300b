"""What a worker is told when it starts, through its environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from benchmarks.workload import Work

__all__ = ["Assignment", "assignment"]

_VARIABLE = "BENCHMARK_ASSIGNMENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    amqp: str
    database: str
    queue: str
    work: Work
    is_async: bool
    at_once: int
    """How many handlers may run at once."""
    counts: str
    """The folder where handlers count what they have handled."""
    is_tuned: bool = False
    """Whether the worker is more than what it is as it comes."""

    @property
    def folder(self) -> Path:
        return Path(self.counts)

    def environment(self) -> dict[str, str]:
        return {_VARIABLE: json.dumps(asdict(self))}


@cache
def assignment() -> Assignment:
    """Return what this process is told."""
    return Assignment(**json.loads(os.environ[_VARIABLE]))
