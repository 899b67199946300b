"""A consumer in a thread of its own, and handlers that tell what they do."""

import asyncio
import json
import threading
from collections import Counter

from faststream_django.conf.entries import broker_settings_from
from faststream_django.worker.consumer import Consumer
from faststream_django.worker.threads import HandlerThreads
from tests.waiting import wait_until

TIMEOUT = 20.0  # seconds; enough for a busy machine


class Handled:
    """What handlers note, from any thread."""

    def __init__(self):
        self.begun = Counter()
        self.done = Counter()
        self.most_at_once = 0
        self.go_on = threading.Event()
        self._at_once = 0
        self._changed = threading.Condition()

    def begin(self, name):
        with self._changed:
            self.begun[name] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._changed.notify_all()

    def end(self, name):
        with self._changed:
            self.done[name] += 1
            self._at_once -= 1
            self._changed.notify_all()

    def hold(self, name):
        """Begin, wait until the test lets go on, and end."""
        self.begin(name)
        assert self.go_on.wait(TIMEOUT)
        self.end(name)

    async def ahold(self, name):
        self.begin(name)
        await asyncio.to_thread(self.go_on.wait, TIMEOUT)
        self.end(name)

    def wait_for(self, condition, timeout=TIMEOUT):
        """Wait until the condition holds of this object."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout), (self.begun, self.done)


class RunningConsumer:
    """A consumer on an event loop in a thread."""

    def __init__(self, routers, *, alias="default", wants=None, **entry):
        self.settings = broker_settings_from(alias, entry)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        options = {} if wants is None else {"wants": wants}
        self.consumer = self.call(self._make(routers, options))
        self.is_finished = False

    def call(self, coroutine, timeout=TIMEOUT):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def start(self):
        self.call(self.consumer.start())
        return self

    def begin_to_start(self):
        return asyncio.run_coroutine_threadsafe(self.consumer.start(), self._loop)

    def stop_taking(self):
        self._loop.call_soon_threadsafe(self.consumer.stop_taking)

    def finish(self, timeout=5.0):
        self.is_finished = True
        return self.call(self.consumer.finish(timeout))

    def wait_until_consuming(self, timeout=TIMEOUT):
        wait_until(lambda: self.consumer.is_consuming, timeout=timeout)

    def lose_connection(self, node):
        """Have the node close the connection; return when the next one consumes, which may be very soon."""
        lost = self.consumer._subscribers.session
        node.close_all_connections()
        wait_until(lambda: self.consumer._subscribers.session not in (lost, None))
        self.wait_until_consuming()

    def close(self):
        try:
            if not self.is_finished:
                self.finish(0.0)
            self.call(self.consumer.close())
        finally:
            self.call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()

    async def _make(self, routers, options):
        threads = HandlerThreads(self.settings.worker.concurrency)
        self.threads = threads
        return Consumer(self.settings, routers, threads, **options)

    async def _end(self):
        self.threads.stop()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_default_executor()


_kept = []


def ignore(router, *queue, **options):
    """Have messages of a queue handled by a function that does nothing."""
    # FastStream keeps a subscriber only as long as somebody has its handler.
    _kept.append(router.subscriber(*queue, **options)(lambda body: None))


def rows(node, what, *columns):
    """Return what rabbitmqctl lists."""
    return json.loads(node.ctl(f"list_{what}", *columns, "--formatter", "json"))


def publish_many(node, queue, bodies, **properties):
    """Publish with pika, each with its body as its id."""
    import pika

    with node.channel() as channel:
        channel.confirm_delivery()
        for body in bodies:
            given = {"message_id": body, "content_type": "text/plain", "delivery_mode": 2} | properties
            channel.basic_publish("", queue, body.encode(), pika.BasicProperties(**given), mandatory=True)
