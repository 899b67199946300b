"""The worker of Dramatiq: `dramatiq benchmarks.consuming.dramatiq_actors`. Django only for the ORM."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.consuming.assignment import assignment
from benchmarks.consuming.handlers import handler

told = assignment()


class DatabaseConnections(dramatiq.Middleware):
    """Closes old connections around each message, as django_dramatiq does."""

    def before_process_message(self, *_: Any) -> None:
        from django.db import close_old_connections

        close_old_connections()

    def after_process_message(self, *_: Any, **__: Any) -> None:
        from django.db import close_old_connections

        close_old_connections()


broker = RabbitmqBroker(url=f"{told.amqp}?heartbeat=600", confirm_delivery=True)
if told.work == "insert":
    import django

    django.setup()
    broker.add_middleware(DatabaseConnections())
dramatiq.set_broker(broker)

handle = dramatiq.actor(handler(), actor_name="handle", queue_name=told.queue)
