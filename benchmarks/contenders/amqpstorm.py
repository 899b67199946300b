"""amqpstorm: one connection for all threads, a channel for each."""

from __future__ import annotations

from typing import Any

from amqpstorm import UriConnection

from benchmarks.contenders.base import BlockingContender, Publish
from benchmarks.workload import encode


class AmqpStorm(BlockingContender):
    def open(self) -> None:
        # The vhost is in the path, where amqpstorm wants it encoded.
        self._connection = UriConnection(f"{self.url.rstrip('/')}/%2F?heartbeat=600")
        super().open()
        self.closing.callback(self._connection.close)

    def publisher(self) -> Publish:
        channel = self._connection.channel()
        channel.confirm_deliveries()
        properties = {"delivery_mode": 2, "content_type": "application/json"}

        def publish(message: Any) -> None:
            channel.basic.publish(encode(message), self.queue, properties=properties, mandatory=True)

        return publish
