"""Requests with a reply, of threads or tasks: everybody asks the same other process."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar
from uuid import uuid4

import pika
from faststream.rabbit import RabbitBroker

from benchmarks.contenders.base import BlockingContender, Contender, Guarantees, LoopContender, Publish
from benchmarks.django_site import configure
from benchmarks.responder import Responder
from benchmarks.workload import encode
from faststream_django import brokers, request

__all__ = ["FastStreamRequests", "OurRequests", "PikaRequests"]

PATIENCE = 30.0  # seconds
REPLIES = "amq.rabbitmq.reply-to"


class WrongReply(Exception):
    """A reply that is not to the request."""


class Asking(Contender):
    """The reply proves that a request was handled: it is neither confirmed nor stored."""

    guarantees: ClassVar[Guarantees] = Guarantees(is_confirmed=False, is_persistent=False)

    closing: ExitStack

    def start_responder(self) -> None:
        self.closing.enter_context(Responder(self.url, self.queue, self.workload.handler_seconds))


class OurRequests(Asking, BlockingContender):
    def open(self) -> None:
        configure(self.url)
        super().open()
        self.start_responder()

    def publisher(self) -> Publish:
        return self._ask

    def close(self) -> None:
        super().close()
        brokers.stop()

    def _ask(self, message: Any) -> None:
        if request(message, self.queue, timeout=PATIENCE) != message:
            raise WrongReply


class PikaRequests(Asking, BlockingContender):
    """A connection for each thread, with direct reply-to as in pika's example."""

    def open(self) -> None:
        super().open()
        self.start_responder()

    def publisher(self) -> Publish:
        parameters = pika.URLParameters(self.url)
        parameters.heartbeat = 600  # seconds: nobody serves the connection between the rounds
        connection = pika.BlockingConnection(parameters)
        self.closing.callback(connection.close)
        channel = connection.channel()
        replies: dict[str, bytes] = {}

        def take(_channel: Any, _method: Any, properties: Any, body: bytes) -> None:
            replies[properties.correlation_id] = body

        channel.basic_consume(REPLIES, take, auto_ack=True)

        def ask(message: Any) -> None:
            correlation_id = str(uuid4())
            properties = pika.BasicProperties(
                reply_to=REPLIES, correlation_id=correlation_id, content_type="application/json"
            )
            channel.basic_publish("", self.queue, encode(message), properties, mandatory=True)
            while correlation_id not in replies:
                connection.process_data_events(time_limit=PATIENCE)
            if replies.pop(correlation_id) != encode(message):
                raise WrongReply

        return ask


class FastStreamRequests(Asking, LoopContender):
    """FastStream's own request(), from tasks: it has one under way at a time."""

    async def aopen(self) -> None:
        self.closing = ExitStack()
        self.start_responder()
        self._broker = RabbitBroker(f"{self.url}?heartbeat=600", logger=None)
        await self._broker.start()

    async def apublish(self, message: Any) -> None:
        reply = await self._broker.request(message, self.queue, timeout=PATIENCE)
        if await reply.decode() != message:
            raise WrongReply

    async def aclose(self) -> None:
        await self._broker.stop()
        self.closing.close()
