"""pika: a BlockingConnection must stay in its thread, so each thread has one."""

from __future__ import annotations

from typing import Any

import pika

from benchmarks.contenders.base import BlockingContender, Publish
from benchmarks.django_site import configure
from benchmarks.workload import encode


class Pika(BlockingContender):
    def open(self) -> None:
        configure(self.url)
        super().open()

    def publisher(self) -> Publish:
        parameters = pika.URLParameters(self.url)
        parameters.heartbeat = 600  # seconds: nobody serves the connection between the rounds
        connection = pika.BlockingConnection(parameters)
        self.closing.callback(connection.close)
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")

        def publish(message: Any) -> None:
            channel.basic_publish("", self.queue, encode(message), properties, mandatory=True)

        return publish
