"""What the figures of the worker must show."""

from __future__ import annotations

from benchmarks.bar import Bar, rate_over

__all__ = ["CONSUMING_BARS"]

CONSUMING_BARS = (
    Bar(
        title="worker, no-op: messages/s against Celery with 8 threads",
        limit=1.8,
        unit="x",
        measure=rate_over("consume-noop", "worker", "celery_worker"),
    ),
    Bar(
        title="worker, no-op: messages/s against Dramatiq",
        limit=1.1,
        unit="x",
        measure=rate_over("consume-noop", "worker", "dramatiq_worker"),
    ),
    Bar(
        title="worker, a row: messages/s against Celery tuned",
        limit=1.2,
        unit="x",
        measure=rate_over("consume-insert", "worker", "celery_worker_tuned"),
    ),
    Bar(
        title="worker, a row: messages/s against Dramatiq",
        limit=1,
        unit="x",
        measure=rate_over("consume-insert", "worker", "dramatiq_worker"),
    ),
    Bar(
        title="worker, async no-op: messages/s against FastStream alone",
        limit=2,
        unit="x",
        measure=rate_over("consume-async", "worker", "faststream_worker"),
    ),
    Bar(
        title="worker, async 20 ms: messages/s against Celery with 100 threads",
        limit=1.2,
        unit="x",
        measure=rate_over("consume-async-20ms", "worker", "celery_worker"),
    ),
)
