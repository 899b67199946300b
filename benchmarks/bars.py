"""What the figures must show."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bar import Bar, Figures, NotRun, Verdict, rate_over, time_over
from benchmarks.consuming_bars import CONSUMING_BARS
from benchmarks.contenders import OURS
from benchmarks.contest import Rows
from benchmarks.outbox_bars import OUTBOX_BARS
from benchmarks.request_scenarios import REQUEST_BARS
from benchmarks.scenarios import THREADS, thread_label

__all__ = ["verdicts"]

MEGABYTE = 1_000_000
_CORE = (180.0, 220.0)
"""Microseconds of CPU that FastStream gathered needs for a message on the core that the bars are for."""


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
        measure=time_over("threads-1", OURS, "pika"),
    ),
    Bar(
        title="1 thread: Celery's median time against ours",
        limit=2,
        unit="x",
        measure=time_over("threads-1", "celery", OURS),
    ),
    Bar(
        title="8 threads: messages/s against pika with 8 connections",
        limit=1.1,
        unit="x",
        measure=rate_over("threads-8", OURS, "pika"),
    ),
    Bar(
        title="32 threads: messages/s against pika with 32 connections",
        limit=1.5,
        unit="x",
        measure=rate_over("threads-32", OURS, "pika"),
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
        measure=rate_over("bulk-bytes", OURS, "raw"),
    ),
    Bar(
        title="publish_many(), bytes: messages/s against FastStream gathered",
        limit=4,
        unit="x",
        measure=rate_over("bulk-bytes", OURS, "faststream_gathered"),
    ),
    Bar(
        title="publish_many(), dicts: messages/s against the raw socket",
        limit=0.7,
        unit="x",
        measure=rate_over("bulk-dicts", OURS, "raw"),
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
        measure=time_over("on-commit", OURS, "round_trip"),
        raw=time_over("on-commit", "raw", "round_trip"),
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
    *OUTBOX_BARS,
    *REQUEST_BARS,
    *CONSUMING_BARS,
)
