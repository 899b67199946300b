"""What is compared, and among whom."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.consuming_scenarios import consuming_scenarios
from benchmarks.contenders import OURS
from benchmarks.outbox_scenarios import outbox_scenarios
from benchmarks.request_scenarios import request_scenarios
from benchmarks.scenario import UNITS, Scenario
from benchmarks.workload import Workload

__all__ = ["THREADS", "scenarios", "thread_label"]

IN_FLIGHT = 1000
THREADS = (1, 2, 4, 8, 16, 32, 64)

_BLOCKING = (OURS, "pika", "kombu", "celery", "dramatiq", "amqpstorm")
_EVERYBODY = (*_BLOCKING, "faststream", "aio_pika", "connect_per_message", "raw", "raw_bare")
_SIZES = (OURS, "pika", "kombu", "celery", "dramatiq", "faststream", "aio_pika", "raw")
_BULK = (OURS, "pika", "celery", "faststream_gathered", "faststream", "aio_pika", "raw", "raw_bare")


def scenarios(*, is_quick: bool, most: int) -> list[Scenario]:
    """Return the scenarios; `most` is the length of the longest bulk."""
    part = 0.2 if is_quick else 1.0
    return [
        *(_threads(threads, calls, part) for threads, calls in ((1, 1000), (8, 4000), (32, 6400))),
        _bulk("bulk-dicts", "dicts", part, is_encoded=False),
        _bulk("bulk-bytes", "encoded bodies", part, is_encoded=True),
        Scenario(
            name="on-commit",
            title="100 publish_on_commit() in a transaction",
            unit=UNITS["ms"],
            contenders=(OURS, "pika", "celery", "raw", "round_trip"),
            workloads=(Workload(way="commits", count=100, calls=max(3, int(15 * part))),),
        ),
        Scenario(
            name="tasks-100",
            title="apublish(), 100 tasks",
            unit=UNITS["rate"],
            contenders=(OURS, "faststream", "aio_pika", "raw", "raw_bare"),
            workloads=(Workload(way="tasks", calls=int(6000 * part), at_once=100),),
        ),
        _size("10 kB", 10_000, int(500 * part)),
        _size("1 MB", 1_000_000, max(5, int(30 * part))),
        *_growth(part, most),
        *outbox_scenarios(part),
        *request_scenarios(part),
        *consuming_scenarios(part),
    ]


def thread_label(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _threads(threads: int, calls: int, part: float) -> Scenario:
    unit = UNITS["us"] if threads == 1 else UNITS["rate"]
    word = "thread, median time" if threads == 1 else "threads"
    each = max(2, int(calls * part / threads))
    return Scenario(
        name=f"threads-{threads}",
        title=f"publish(), {threads} {word}",
        unit=unit,
        contenders=_EVERYBODY,
        workloads=(Workload(way="threads", calls=each * threads, at_once=threads),),
    )


def _bulk(name: str, what: str, part: float, *, is_encoded: bool) -> Scenario:
    workload = Workload(way="bulk", count=int(20_000 * part), at_once=IN_FLIGHT, is_encoded=is_encoded)
    return Scenario(
        name=name,
        title=f"publish_many(), {workload.count:,} {what}",
        unit=UNITS["rate"],
        contenders=_BULK,
        workloads=(workload,),
    )


def _size(title: str, size: int, calls: int) -> Scenario:
    return Scenario(
        name=f"body-{title.replace(' ', '').lower()}",
        title=f"publish(), 1 thread, {title}, median time",
        unit=UNITS["us"],
        contenders=_SIZES,
        workloads=(Workload(way="threads", calls=calls, size=size),),
    )


def _growth(part: float, most: int) -> list[Scenario]:
    per_point = max(640, int(3200 * part))
    bulk = Workload(way="bulk", at_once=IN_FLIGHT)
    # A short bulk is repeated, so that a round of it takes long enough to be measured.
    lengths = [(100, 20), (1000, 5), (10_000, 1)]
    return [
        Scenario(
            name="growth-threads",
            title="publish() from 1 to 64 threads",
            unit=UNITS["rate"],
            contenders=(OURS, "pika"),
            workloads=tuple(
                Workload(way="threads", calls=per_point, at_once=threads, label=thread_label(threads))
                for threads in THREADS
            ),
            chart="line",
        ),
        Scenario(
            name="growth-bulk",
            title="publish_many() of more and more messages",
            unit=UNITS["rate"],
            contenders=(OURS,),
            workloads=tuple(
                replace(bulk, count=count, calls=calls, label=f"{count:,} messages")
                for count, calls in lengths
            ),
            chart="line",
        ),
        Scenario(
            name="growth-long-bulk",
            title="publish_many() of very many messages, once",
            unit=UNITS["rate"],
            contenders=(OURS,),
            workloads=tuple(
                replace(bulk, count=count, label=f"{count:,} messages") for count in (100_000, most)
            ),
            rounds=1,
            is_warmed_up=False,
            chart="line",
        ),
    ]
