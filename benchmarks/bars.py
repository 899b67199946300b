"""What the figures must show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.contenders import OURS
from benchmarks.contest import Row, Rows
from benchmarks.scenarios import THREADS, thread_label

__all__ = ["Bar", "Verdict", "verdicts"]

MEGABYTE = 1_000_000
_CORE = (180.0, 220.0)
"""Microseconds of CPU that FastStream gathered needs for a message on the core that the bars are for."""


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

    def longest(self, scenario: str) -> Row:
        rows = [row for row in self._rows if row.scenario.name == scenario and row.samples]
        if not rows:
            raise NotRun
        return max(rows, key=lambda row: row.workload.total)

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


def verdicts(rows: Rows) -> Iterator[Verdict]:
    figures = Figures(rows)
    for bar in BARS:
        wanted = f"{'<=' if bar.is_at_most else '>='} {bar.limit:g} {bar.unit}".strip()
        try:
            scale, figure = bar.scale(figures), bar.measure(figures)
        except NotRun:
            yield Verdict(title=bar.title, wanted=wanted, figure="", is_met=None)
            continue
        limit = bar.limit * scale
        if scale != 1:
            wanted += f" x {scale:.2f} for this core = {limit:.3g}"
        if bar.raw:
            wanted += f"; the raw socket: {bar.raw(figures):.1f}"
        yield Verdict(
            title=bar.title,
            wanted=wanted,
            figure=f"{figure:.2f} {bar.unit}".strip(),
            is_met=figure <= limit if bar.is_at_most else figure >= limit,
        )


def _rate_over(scenario: str, other: str) -> Callable[[Figures], float]:
    return lambda figures: figures(scenario).rate / figures(scenario, other).rate


def _time_over(scenario: str, contender: str, other: str) -> Callable[[Figures], float]:
    return lambda figures: (
        figures(scenario, contender).median_seconds / figures(scenario, other).median_seconds
    )


def _core(figures: Figures) -> float:
    """Compare this core with the one that the bars are for, by what FastStream gathered needs."""
    fastest, slowest = _CORE
    cpu = figures.cpu("bulk-bytes", "faststream_gathered")
    return cpu / min(max(cpu, fastest), slowest)


def _memory_growth(figures: Figures) -> float:
    sample = figures.longest("growth-long-bulk").samples[-1]
    if not sample.last_bytes:
        raise NotRun
    return abs(sample.last_bytes - sample.first_bytes) / MEGABYTE


def _connections(figures: Figures) -> float:
    return float(max(figures(name).connections or 0 for name in ("threads-8", "threads-32")))


def _last_step(figures: Figures) -> float:
    before, last = (figures("growth-threads", label=thread_label(threads)).rate for threads in THREADS[-2:])
    return last / before


BARS = (
    Bar(
        title="1 thread: median time against pika",
        limit=1.1,
        unit="x",
        is_at_most=True,
        measure=_time_over("threads-1", OURS, "pika"),
    ),
    Bar(
        title="1 thread: Celery's median time against ours",
        limit=2,
        unit="x",
        measure=_time_over("threads-1", "celery", OURS),
    ),
    Bar(
        title="8 threads: messages/s against pika with 8 connections",
        limit=1.1,
        unit="x",
        measure=_rate_over("threads-8", "pika"),
    ),
    Bar(
        title="32 threads: messages/s against pika with 32 connections",
        limit=1.5,
        unit="x",
        measure=_rate_over("threads-32", "pika"),
    ),
    Bar(
        title="8 and 32 threads: connections of ours",
        limit=1,
        unit="",
        is_at_most=True,
        measure=_connections,
    ),
    Bar(
        title="publish_many(), bytes: messages/s against the raw socket",
        limit=0.7,
        unit="x",
        measure=_rate_over("bulk-bytes", "raw"),
    ),
    Bar(
        title="publish_many(), bytes: messages/s against FastStream gathered",
        limit=4,
        unit="x",
        measure=_rate_over("bulk-bytes", "faststream_gathered"),
    ),
    Bar(
        title="publish_many(), dicts: messages/s against the raw socket",
        limit=0.7,
        unit="x",
        measure=_rate_over("bulk-dicts", "raw"),
    ),
    Bar(
        title="publish_many(), bytes: CPU a message",
        limit=35,
        unit="us",
        is_at_most=True,
        measure=lambda figures: figures.cpu("bulk-bytes"),
        scale=_core,
    ),
    Bar(
        title="32 threads: CPU a message",
        limit=90,
        unit="us",
        is_at_most=True,
        measure=lambda figures: figures.cpu("threads-32"),
        scale=_core,
    ),
    Bar(
        title="100 publish_on_commit(): round trips in time",
        limit=4,
        unit="round trips",
        is_at_most=True,
        measure=_time_over("on-commit", OURS, "round_trip"),
        raw=_time_over("on-commit", "raw", "round_trip"),
    ),
    Bar(
        title="longest publish_many(): memory, last against first 100,000",
        limit=20,
        unit="MB",
        is_at_most=True,
        measure=_memory_growth,
    ),
    Bar(
        title="messages/s at 64 threads against 32",
        limit=0.9,
        unit="x",
        measure=_last_step,
    ),
)
