"""Dramatiq: an actor's send; the message is an argument of the actor, in Dramatiq's envelope."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.contenders.base import BlockingContender, Publish


class Dramatiq(BlockingContender):
    def open(self) -> None:
        broker = RabbitmqBroker(url=f"{self.url}?heartbeat=600", confirm_delivery=True)
        self._actor = dramatiq.actor(_take, actor_name="take", queue_name=self.queue, broker=broker)
        super().open()
        self.closing.callback(broker.close)

    def publisher(self) -> Publish:
        return self._actor.send  # the broker keeps a connection for each thread


def _take(message: Any) -> None:
    """Do nothing: no worker runs it."""
