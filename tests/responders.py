"""Whoever answers requests in tests: a pika consumer in a thread, which replies when the test says so."""

import contextlib
import queue
import threading

import pika


class Responder:
    """Consumes a queue; keeps the requests until the test answers them.

    With `answer`, a function of the body, it replies at once; None is no reply.
    """

    def __init__(self, url, queue_name, answer=None):
        self.requests = queue.SimpleQueue()
        self._answer = answer
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.basic_consume(queue_name, self._on_request, auto_ack=True)
        self._thread = threading.Thread(target=self._consume, daemon=True)
        self._thread.start()

    def take(self, count=1, timeout=10):
        """Wait for so many requests; return them in the order in which they came."""
        return [self.requests.get(timeout=timeout) for _ in range(count)]

    def reply(self, request, body=None, **properties):
        """Answer a request, with its own body if none is given."""
        self._connection.add_callback_threadsafe(
            lambda: self._reply(request, request.body if body is None else body, properties)
        )

    def close(self):
        with contextlib.suppress(pika.exceptions.AMQPError):
            self._connection.add_callback_threadsafe(self._channel.stop_consuming)
            self._thread.join(5)
            self._connection.close()

    def _consume(self):
        with contextlib.suppress(pika.exceptions.AMQPError):
            self._channel.start_consuming()

    def _on_request(self, channel, method, properties, body):
        request = Received(body, properties)
        if self._answer is None:
            self.requests.put(request)
        elif (answer := self._answer(body)) is not None:
            self._reply(request, answer, {})

    def _reply(self, request, body, properties):
        own = {"correlation_id": request.properties.correlation_id} | properties
        self._channel.basic_publish("", request.properties.reply_to, body, pika.BasicProperties(**own))


class Received:
    def __init__(self, body, properties):
        self.body = body
        self.properties = properties
