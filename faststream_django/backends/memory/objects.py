"""The queues and exchanges of the embedded broker, as aio-pika shows them to FastStream."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pamqp.commands import Basic

from faststream_django.backends.memory.consumer import Callback

if TYPE_CHECKING:
    from aio_pika import Message

    from faststream_django.backends.memory.queue import Queue

__all__ = ["REPLY_TO", "Channel", "MemoryExchange", "MemoryQueue"]

REPLY_TO = "amq.rabbitmq.reply-to"


class Channel(Protocol):
    """The channel that they belong to, as aiormq names its methods."""

    reply_queue: Queue | None

    async def queue_declare(self, queue: str = "", **declaration: Any) -> Queue: ...
    async def queue_bind(
        self, queue: str, exchange: str, routing_key: str, arguments: Mapping[str, Any] | None
    ) -> None: ...
    async def exchange_bind(
        self, destination: str, source: str, routing_key: str, arguments: Mapping[str, Any] | None
    ) -> None: ...
    async def basic_publish(
        self, body: bytes, *, exchange: str, routing_key: str, properties: Basic.Properties, mandatory: bool
    ) -> Basic.Ack: ...
    def consume(self, queue: Queue, callback: Callback, *, no_ack: bool) -> str: ...
    def cancel_consumer(self, tag: str) -> None: ...


class MemoryQueue:
    """A queue, or the channel's pseudo-queue for replies (None), as aio-pika shows it."""

    def __init__(self, channel: Channel, queue: Queue | None) -> None:
        self.channel = channel
        self.name = REPLY_TO if queue is None else queue.name
        self._queue = queue

    async def bind(
        self,
        exchange: MemoryExchange,
        routing_key: str | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        **client_options: Any,  # noqa: ARG002
    ) -> None:
        key = self.name if routing_key is None else routing_key
        await self.channel.queue_bind(self.name, exchange.name, key, arguments)

    async def consume(
        self,
        callback: Callback,
        no_ack: bool = False,  # noqa: FBT001, FBT002
        **client_options: Any,  # noqa: ARG002
    ) -> str:
        queue = self._queue or await self._declare_reply_queue()
        return self.channel.consume(queue, callback, no_ack=no_ack)

    async def cancel(self, consumer_tag: str, **client_options: Any) -> None:  # noqa: ARG002
        self.channel.cancel_consumer(consumer_tag)

    async def _declare_reply_queue(self) -> Queue:
        # RabbitMQ's "direct reply-to": answers come back under a name of this channel alone.
        name = f"{REPLY_TO}.{uuid.uuid4().hex}"
        queue = await self.channel.queue_declare(name, durable=False, auto_delete=True)
        self.channel.reply_queue = queue
        return queue


class MemoryExchange:
    """An exchange, as aio-pika shows it."""

    def __init__(self, channel: Channel, name: str) -> None:
        self.channel = channel
        self.name = name

    async def bind(
        self,
        exchange: MemoryExchange,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        **client_options: Any,  # noqa: ARG002
    ) -> None:
        await self.channel.exchange_bind(self.name, exchange.name, routing_key, arguments)

    async def publish(
        self,
        message: Message,
        routing_key: str,
        *,
        mandatory: bool = True,
        **client_options: Any,  # noqa: ARG002
    ) -> Basic.Ack:
        return await self.channel.basic_publish(
            message.body,
            exchange=self.name,
            routing_key=routing_key,
            properties=message.properties,
            mandatory=mandatory,
        )
