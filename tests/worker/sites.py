"""A worker on the embedded broker and on RabbitMQ, and what its handlers were given."""

import asyncio
import itertools
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from faststream_django.backends.memory.connection import attach
from faststream_django.backends.memory.refusals import ServerRefused
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.backends.rabbit.properties import Properties
from faststream_django.conf import broker_settings
from faststream_django.loop import loop_thread
from faststream_django.worker.broker import build_broker
from faststream_django.worker.consumer import Consumer
from faststream_django.worker.threads import HandlerThreads

PATIENCE = 30.0
"""Seconds that a test waits for what must come."""


def eventually(look):
    """Return what is found as soon as there is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    return found


@dataclass(frozen=True, kw_only=True)
class Lying:
    """A message as it lies in a queue; its properties have the names of pika."""

    body: bytes
    headers: dict[str, Any]
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    content_type: str | None
    content_encoding: str | None
    priority: int | None
    timestamp: int | None
    type: str | None
    app_id: str | None
    expiration: str | None
    user_id: str | None
    delivery_mode: int


class Calls:
    """Notes the calls of handlers, in any thread, and when they came."""

    def __init__(self):
        self.seen = []
        self.times = []
        self._changed = threading.Condition()

    def __call__(self, what=None):
        """Note a call; return how many there were."""
        with self._changed:
            self.seen.append(what)
            self.times.append(time.monotonic())
            self._changed.notify_all()
            return len(self.seen)

    def wait(self, count=1, timeout=PATIENCE):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= count, timeout), self.seen
        return self.seen

    @property
    def gaps(self):
        """The seconds between the calls."""
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]


@dataclass
class Site:
    """A Django site with one broker, whose subscribers run."""

    settings: Any
    url: str
    name: str = field(default_factory=lambda: f"q-{uuid.uuid4().hex[:8]}")
    """A queue of its own for each test."""
    consumers: list = field(default_factory=list)
    threads: list = field(default_factory=list)

    def configure(self, **entry):
        self.settings.FASTSTREAM = {"default": {"URL": self.url, "TIMEOUT": 2.0, **entry}}

    def consume(self, *routers):
        """Start the subscribers of the routers; return the queue name of the test."""
        self.run(self._start(broker_settings("default"), routers))

    def start_threads(self, settings):
        self.threads.append(HandlerThreads(settings.worker.concurrency))
        return self.threads[-1]

    def end_threads(self):
        """End the threads of handlers, whose connections would keep the test databases in use."""
        while self.threads:
            threads = self.threads.pop()
            threads.stop()
            for thread in threads._threads:
                thread.join(PATIENCE)

    def wait_for(self, queue, count=1):
        """Return what lies in a queue once there are so many messages."""
        found = []
        deadline = time.monotonic() + PATIENCE
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} messages in {queue!r}"
            try:
                found += self.drain(queue)
            except LookupError:
                threading.Event().wait(0.02)
        return found

    def is_empty(self, queue):
        """Whether nothing waits there, or there is no such queue."""
        try:
            return self.count(queue) == 0
        except LookupError:
            return True

    @property
    def dead_letters(self):
        return f"{self.name}.dlq"


class Embedded(Site):
    @property
    def server(self):
        return MemoryServer.get(self.url)

    def run(self, coroutine):
        async def main():
            return await coroutine

        return loop_thread.run(main, timeout=PATIENCE)

    async def _start(self, settings, routers):
        broker = build_broker(settings, routers, self.start_threads(settings))
        await attach(self.server, broker)
        self.consumers.append(broker)

    def declare(self, queue, **arguments):
        kind = arguments.pop("x-queue-type", "classic")
        self.server.declare_queue(queue, arguments={"x-queue-type": kind, **arguments})

    def bind(self, queue, exchange, routing_key):
        self.server.declare_exchange(exchange, "topic")
        self.server.bind(self.server.queue(queue), exchange, routing_key)

    def delete(self, queue):
        self.server.delete_queue(self.server.queue(queue))

    def publish(self, body, queue=None, exchange="", **properties):
        if "type" in properties:
            properties["message_type"] = properties.pop("type")
        if "timestamp" in properties:
            properties["timestamp"] = datetime.fromtimestamp(properties["timestamp"], tz=UTC)
        properties.setdefault("message_id", uuid.uuid4().hex)
        given = Properties(delivery_mode=2, **properties)
        assert self.server.publish(exchange, queue or self.name, given, body) == "confirmed"

    def count(self, queue):
        try:
            return self.server.count(queue)
        except ServerRefused:
            raise LookupError(queue) from None

    def drain(self, queue):
        try:
            envelopes = self.server.queue(queue).drain()
        except ServerRefused:
            raise LookupError(queue) from None
        return [self._lying(each) for each in envelopes]

    def _lying(self, envelope):
        given = envelope.open()
        names = Lying.__dataclass_fields__.keys() - {"body", "headers", "type", "timestamp"}
        return Lying(
            body=envelope.body,
            headers=dict(given.headers or {}),
            type=given.message_type,
            timestamp=given.timestamp and int(given.timestamp.timestamp()),
            **{name: getattr(given, name) or None for name in names},
        )

    def stop(self):
        """Stop what consumes, once it has come to its end."""
        for broker in self.consumers:
            self.run(broker.stop())
        self.consumers.clear()
        self.end_threads()


class Rabbit(Site):
    def __init__(self, settings, node):
        super().__init__(settings, node.url())
        self.node = node
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    async def _start(self, settings, routers):
        # Its own connection is not the one that the settings name, which a test may break.
        threads = self.start_threads(settings)
        consumer = Consumer(replace(settings, urls=(self.url,)), routers, threads)
        await consumer.start()
        self.consumers.append(consumer)

    def declare(self, queue, **arguments):
        self.node.declare_queue(queue, arguments={"x-queue-type": "classic", **arguments})

    def bind(self, queue, exchange, routing_key):
        self.node.declare_exchange(exchange, "topic")
        self.node.bind(queue, exchange, routing_key)

    def delete(self, queue):
        self.node.delete_queue(queue)

    def publish(self, body, queue=None, exchange="", **properties):
        properties.setdefault("message_id", uuid.uuid4().hex)
        self.node.publish(body, queue or self.name, exchange, **properties)

    def count(self, queue):
        return self._look(self.node.count, queue)

    def drain(self, queue):
        return [self._lying(each) for each in self._look(self.node.drain, queue)]

    def _look(self, look, queue):
        from pika.exceptions import ChannelClosedByBroker

        try:
            return look(queue)
        except ChannelClosedByBroker:
            raise LookupError(queue) from None

    def _lying(self, message):
        names = Lying.__dataclass_fields__.keys() - {"body", "headers"}
        return Lying(
            body=message.body,
            headers=message.headers,
            **{name: getattr(message.properties, name) or None for name in names},
        )

    def look(self, queue):
        """Take the message at the head of a queue, and give it back."""
        with self.node.channel() as channel:
            method, _, _ = channel.basic_get(queue)
            assert method is not None, f"nothing in {queue!r}"
            channel.basic_nack(method.delivery_tag, requeue=True)
            eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count)

    def stop_consuming(self):
        for consumer in self.consumers:
            self.run(consumer.finish(5.0))
        self.consumers.clear()
        self.end_threads()

    def stop(self):
        if self.loop.is_closed():
            return
        self.stop_consuming()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()
