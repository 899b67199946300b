"""Handlers, called by hand."""

import asyncio

from faststream.rabbit import RabbitBroker
from faststream.rabbit import TestRabbitBroker as FakeRabbit

from faststream_django.worker.injection import call_in_threads
from faststream_django.worker.threads import HandlerThreads
from tests.outbox.waiting import SOON


class Bench:
    """Makes brokers whose handlers run as in a worker, or as FastStream runs them."""

    def __init__(self, *, is_ours=True, concurrency=3):
        self.is_ours = is_ours
        self.threads = HandlerThreads(concurrency)
        self.runner = asyncio.Runner()
        self.seen = []

    def broker(self, **options):
        broker = RabbitBroker(logger=None, **options)
        if self.is_ours:
            call_in_threads(broker, self.threads)
        return broker

    def handle(self, broker, *bodies, queue="orders", **options):
        """Have the broker handle these messages, one after the other.

        Raise what a handler raises; return what they saw.
        """

        async def main():
            async with FakeRabbit(broker):
                for body in bodies:
                    await broker.publish(body, "" if "exchange" in options else queue, **options)

        self.runner.run(main())
        return self.seen

    def handle_at_once(self, broker, queues, meanwhile=lambda: None):
        """Have the broker handle a message of each queue, all at once; call a function in another thread."""

        async def main():
            async with FakeRabbit(broker):
                handling = [asyncio.create_task(broker.publish("x", queue)) for queue in queues]
                await asyncio.to_thread(meanwhile)
                await asyncio.gather(*handling)

        self.runner.run(main())

    def close(self):
        threads = list(self.threads._threads)
        self.threads.stop()
        for thread in threads:
            thread.join(SOON)
        self.runner.close()
