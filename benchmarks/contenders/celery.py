"""Celery: a task call; the message is an argument of the task, in Celery's envelope."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery import Celery
from kombu import Queue, pools

from benchmarks.contenders.base import BlockingContender, Publish
from benchmarks.django_site import configure


class CelerySender(BlockingContender):
    def open(self) -> None:
        configure(self.url)
        pools.reset()
        self._app = Celery("bench", broker=self.url, set_as_current=False)
        self._app.conf.update(
            broker_transport_options={"confirm_publish": True},
            broker_pool_limit=self.workload.at_once,
            task_ignore_result=True,
            task_queues=[Queue(self.queue, routing_key=self.queue, durable=True)],
            task_default_queue=self.queue,
            task_default_delivery_mode="persistent",
        )
        self._task = self._app.task(_take, name="bench.take")
        super().open()
        self.closing.callback(self._app.close)

    def publisher(self) -> Publish:
        return partial(self._send, self._task)

    def _send(self, task: Any, message: Any) -> None:
        task.apply_async((message,), queue=self.queue, mandatory=True)


def _take(message: Any) -> None:
    """Do nothing: no worker runs it."""
