"""The worker of Celery in a Django project: `celery -A benchmarks.consuming.celery_app worker`."""

from __future__ import annotations

from celery import Celery
from kombu import Queue

from benchmarks.consuming.assignment import assignment
from benchmarks.consuming.handlers import handler

__all__ = ["app", "handle"]

PREFETCH_OF_SHORT_TASKS = 50
"""For each thread or process, as Celery's documentation advises for many short tasks; the default is 4."""

told = assignment()

app = Celery("bench", broker=told.amqp)
app.conf.update(
    broker_heartbeat=0,  # it is stopped between the rounds
    task_acks_late=True,
    task_ignore_result=True,
    task_queues=[Queue(told.queue, routing_key=told.queue, durable=True)],
    task_default_queue=told.queue,
    worker_prefetch_multiplier=4 if told.work == "wait" else PREFETCH_OF_SHORT_TASKS,
)
if told.is_tuned:
    # Otherwise it closes Django's connections after each task, whatever CONN_MAX_AGE says.
    app.conf.update(CELERY_DB_REUSE_MAX=1_000_000)

handle = app.task(handler(), name="bench.handle")
