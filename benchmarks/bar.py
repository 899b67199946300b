"""What a bar is: a figure, and the limit that it must keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.contenders import OURS
from benchmarks.contest import Row, Rows

__all__ = ["Bar", "Figures", "NotRun", "Verdict", "rate_over", "time_over"]


class NotRun(Exception):
    """A figure that this run does not have."""


class Figures:
    """Finds the row of a contender in a scenario."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __call__(self, scenario: str, contender: str = OURS, label: str = "") -> Row:
        for row in self._rows:
            found = (row.scenario.name, row.contender, row.workload.label)
            if found == (scenario, contender, label) and row.samples:
                return row
        raise NotRun

    def all(self, scenario: str) -> Rows:
        rows = [row for row in self._rows if row.scenario.name == scenario and row.samples]
        if not rows:
            raise NotRun
        return rows

    def longest(self, scenario: str) -> Row:
        return max(self.all(scenario), key=lambda row: row.workload.total)

    def cpu(self, scenario: str, contender: str = OURS) -> float:
        """Microseconds of CPU a message."""
        return self(scenario, contender).cpu_per_message * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    title: str
    limit: float
    unit: str
    measure: Callable[[Figures], float]
    is_at_most: bool = False
    scale: Callable[[Figures], float] = lambda _: 1.0
    """What the limit is multiplied with on this machine."""
    raw: Callable[[Figures], float] | None = None
    """What the raw socket reaches, where the bar is not measured against it anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    title: str
    wanted: str
    figure: str
    is_met: bool | None
    """None where this run has no figure."""

    @property
    def word(self) -> str:
        return {True: "met", False: "not met", None: "not run"}[self.is_met]


def rate_over(scenario: str, contender: str, other: str) -> Callable[[Figures], float]:
    return lambda figures: figures(scenario, contender).rate / figures(scenario, other).rate


def time_over(scenario: str, contender: str, other: str) -> Callable[[Figures], float]:
    return lambda figures: (
        figures(scenario, contender).median_seconds / figures(scenario, other).median_seconds
    )
