"""What is compared of workers: a queue that is full when they begin, and how soon it is empty."""

from __future__ import annotations

from benchmarks.scenario import UNITS, Scenario
from benchmarks.workload import Workload

__all__ = ["consuming_scenarios"]

SIZE = 300
"""Bytes of a body."""
THREADS, COROUTINES = 8, 100


def consuming_scenarios(part: float) -> list[Scenario]:
    return [
        Scenario(
            name="consume-noop",
            title=f"Handlers that do nothing, {THREADS} at once",
            unit=UNITS["rate"],
            contenders=("worker", "faststream_worker", "celery_worker", "celery_prefork", "dramatiq_worker"),
            workloads=(
                Workload(way="consume", work="noop", count=int(10_000 * part), at_once=THREADS, size=SIZE),
            ),
        ),
        Scenario(
            name="consume-insert",
            title=f"Handlers that write a row, {THREADS} at once",
            unit=UNITS["rate"],
            contenders=(
                "worker",
                "faststream_worker",
                "celery_worker",
                "celery_worker_tuned",
                "dramatiq_worker",
            ),
            workloads=(
                Workload(way="consume", work="insert", count=int(5000 * part), at_once=THREADS, size=SIZE),
            ),
        ),
        Scenario(
            name="consume-async",
            title=f"Async handlers that do nothing, {COROUTINES} at once",
            unit=UNITS["rate"],
            contenders=("worker", "faststream_worker"),
            workloads=(
                Workload(
                    way="consume",
                    work="noop",
                    is_async=True,
                    count=int(20_000 * part),
                    at_once=COROUTINES,
                    size=SIZE,
                ),
            ),
        ),
        Scenario(
            name="consume-async-20ms",
            title=f"Handlers that wait for 20 ms, {COROUTINES} at once; async, or in threads",
            unit=UNITS["rate"],
            contenders=("worker", "faststream_worker", "celery_worker", "dramatiq_worker"),
            workloads=(
                Workload(
                    way="consume",
                    work="wait",
                    is_async=True,
                    count=int(6000 * part),
                    at_once=COROUTINES,
                    size=SIZE,
                ),
            ),
        ),
    ]
