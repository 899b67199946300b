"""kombu: a pool of producers with confirms."""

from __future__ import annotations

from typing import Any

from kombu import Connection, pools

from benchmarks.contenders.base import BlockingContender, Publish
from benchmarks.workload import encode


class Kombu(BlockingContender):
    def open(self) -> None:
        pools.set_limit(self.workload.at_once)
        connection = Connection(self.url, transport_options={"confirm_publish": True})
        self._producers = pools.producers[connection]
        super().open()
        self.closing.callback(pools.reset)

    def publisher(self) -> Publish:
        producers = self._producers

        def publish(message: Any) -> None:
            with producers.acquire(block=True) as producer:
                producer.publish(
                    encode(message),
                    exchange="",
                    routing_key=self.queue,
                    content_type="application/json",
                    content_encoding="utf-8",
                    delivery_mode=2,
                    mandatory=True,
                )

        return publish
