"""django-celery-outbox: a task call is stored by the ORM, and its relay calls Celery; with confirms."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any, ClassVar

import structlog
from kombu import Queue

from benchmarks.contenders.backlog import BacklogContender, Watch
from benchmarks.django_site import configure, make_tables


class CeleryOutbox(BacklogContender):
    """With its defaults, but for the confirms: one thread, 100 rows at a time."""

    settings: ClassVar[dict[str, Any]] = {}

    def open(self) -> None:
        # Unconfigured, structlog prints a line for each message.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        configure(self.url, database=self.addresses.database, apps=["django_celery_outbox"])
        make_tables()

        from django_celery_outbox import OutboxCelery

        self._app = OutboxCelery("bench", broker=self.url, set_as_current=False)
        self._app.conf.update(
            broker_transport_options={"confirm_publish": True},
            broker_pool_limit=max(10, self.settings.get("publish_concurrency", 1)),
            task_ignore_result=True,
            task_queues=[Queue(self.queue, routing_key=self.queue, durable=True)],
            task_default_queue=self.queue,
            task_default_delivery_mode="persistent",
        )
        self._task = self._app.task(_take, name="bench.take")

    def fill(self, count: int) -> None:
        from django.db import transaction

        message = self.workload.message
        with transaction.atomic():
            for _ in range(count):
                self._task.apply_async((message,), queue=self.queue, mandatory=True)

    def relay(self) -> Watch:
        from django_celery_outbox.relay import Relay, RelayConfig

        relay, watch = Relay(app=self._app, config=RelayConfig.init(**self.settings)), Watch()
        watch.until_empty(
            self.addresses.database,
            "SELECT 1 FROM celery_outbox",
            lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
        relay.start()
        return watch

    def close(self) -> None:
        from django.db import connections

        self._app.close()
        connections.close_all()


class CeleryOutboxBest(CeleryOutbox):
    """With the settings at which we found it fastest."""

    settings: ClassVar[dict[str, Any]] = {"batch_size": 1000, "publish_concurrency": 16}


def _take(message: Any) -> None:
    """Do nothing: no worker runs it."""
