"""What a scenario is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.sample import Sample
from benchmarks.workload import Workload

__all__ = ["UNITS", "Scenario", "Unit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    name: str
    is_higher_better: bool
    factor: float = 1.0

    def figure(self, sample: Sample) -> float:
        return sample.rate if self.is_higher_better else sample.median_seconds * self.factor


UNITS = {
    "rate": Unit(name="messages/s", is_higher_better=True),
    "us": Unit(name="us", is_higher_better=False, factor=1e6),
    "ms": Unit(name="ms", is_higher_better=False, factor=1e3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    title: str
    unit: Unit
    contenders: tuple[str, ...]
    workloads: tuple[Workload, ...]
    rounds: int | None = None
    """How often, where that is not for the user to say."""
    is_warmed_up: bool = True
    chart: Literal["bars", "line"] = "bars"
    against: str = ""
    """The contender that the others are measured against; where there is none, the best peer."""
    shows_slow: bool = False
    """Whether it matters in which time 95 % of the calls are done."""
