"""What is compared of request(), and what its figures must show."""

from __future__ import annotations

from benchmarks.bar import Bar, Figures, rate_over
from benchmarks.scenario import UNITS, Scenario
from benchmarks.workload import Workload

__all__ = ["REQUEST_BARS", "request_scenarios"]

_CONTENDERS = ("request", "pika_request", "faststream_request")
_THREADS = 32
_HANDLER = 0.05  # seconds
_ALONE, _TOGETHER = "1 thread", f"{_THREADS} threads"


def request_scenarios(part: float) -> list[Scenario]:
    each = max(2, int(50 * part))
    return [
        Scenario(
            name="request-1",
            title="request(), 1 thread, median time",
            unit=UNITS["us"],
            contenders=_CONTENDERS,
            workloads=(Workload(way="threads", calls=max(20, int(500 * part))),),
        ),
        Scenario(
            name="request-32",
            title="request() of a handler, 32 threads",
            unit=UNITS["rate"],
            contenders=_CONTENDERS,
            workloads=(Workload(way="threads", calls=each * _THREADS, at_once=_THREADS),),
        ),
        Scenario(
            name="request-slow",
            title="request() of a handler of 50 ms, median time",
            unit=UNITS["ms"],
            contenders=("request", "pika_request"),
            workloads=tuple(
                Workload(
                    way="threads",
                    calls=max(3, int(10 * part)) * threads,
                    at_once=threads,
                    handler_seconds=_HANDLER,
                    label=label,
                )
                for threads, label in ((1, _ALONE), (_THREADS, _TOGETHER))
            ),
        ),
    ]


def _slowed(figures: Figures) -> float:
    together, alone = (figures("request-slow", "request", label) for label in (_TOGETHER, _ALONE))
    return together.median_seconds / alone.median_seconds


REQUEST_BARS = (
    Bar(
        title="32 threads request(): time against FastStream's request()",
        limit=0.6,
        unit="x",
        is_at_most=True,
        measure=rate_over("request-32", "faststream_request", "request"),
    ),
    Bar(
        title="32 threads request(): time against pika with 32 connections",
        limit=1.3,
        unit="x",
        is_at_most=True,
        measure=rate_over("request-32", "pika_request", "request"),
    ),
    Bar(
        title="32 threads request() a handler of 50 ms: median against one alone",
        limit=1.2,
        unit="x",
        is_at_most=True,
        measure=_slowed,
    ),
)
