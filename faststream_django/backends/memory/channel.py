"""A channel of the embedded broker, as aiormq and aio-pika name its parts."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiormq import exceptions
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from faststream_django.backends.memory.consumer import Callback, MemoryConsumer
from faststream_django.backends.memory.objects import REPLY_TO, MemoryExchange, MemoryQueue
from faststream_django.backends.memory.refusals import ServerRefused

if TYPE_CHECKING:
    from faststream_django.backends.memory.envelope import Envelope
    from faststream_django.backends.memory.queue import Queue
    from faststream_django.backends.memory.server import MemoryServer

__all__ = ["MemoryChannel"]

ERRORS: dict[int, type[exceptions.ChannelClosed]] = {
    403: exceptions.ChannelAccessRefused,
    404: exceptions.ChannelNotFoundEntity,
    405: exceptions.ChannelLockedResource,
    406: exceptions.ChannelPreconditionFailed,
}


class MemoryChannel:
    """A channel: it holds what its consumers have not settled yet."""

    def __init__(self, server: MemoryServer, owner: object, *, on_return_raises: bool) -> None:
        self.server = server
        self.connection = owner  # so named for aio-pika, which asks it whether it can nack
        self.on_return_raises = on_return_raises
        self.is_closed = False
        self.prefetch_count = 0
        self.is_prefetch_shared = False
        self.reply_queue: Queue | None = None
        self.consumers: dict[str, MemoryConsumer] = {}
        self._unsettled: dict[int, tuple[MemoryConsumer, Envelope]] = {}
        self._last_tag = 0

    # As aiormq names them

    async def queue_declare(self, queue: str = "", **declaration: Any) -> Queue:
        with _driver_errors():
            return self.server.declare_queue(queue, owner=self.connection, **declaration)

    async def exchange_declare(
        self, exchange: str, *, exchange_type: str = "direct", **declaration: Any
    ) -> None:
        with _driver_errors():
            self.server.declare_exchange(exchange, exchange_type, **declaration)

    async def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        with _driver_errors():
            self.server.bind(self.server.queue(queue), exchange, routing_key, arguments)

    async def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        with _driver_errors():
            self.server.bind(self.server.exchange(destination), source, routing_key, arguments)

    async def basic_publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: Basic.Properties,
        mandatory: bool = False,
    ) -> Basic.Ack:
        if properties.reply_to == REPLY_TO and self.reply_queue is not None:
            properties.reply_to = self.reply_queue.name
        with _driver_errors():
            verdict = self.server.publish(exchange, routing_key, properties, body, mandatory=mandatory)
        if verdict == "rejected":
            raise exceptions.DeliveryError(None, Basic.Nack())
        if verdict == "returned" and self.on_return_raises:
            frame = Basic.Return(312, "NO_ROUTE", exchange, routing_key)
            header = ContentHeader(body_size=len(body), properties=properties)
            returned = DeliveredMessage(frame, header, body, self)  # type: ignore[arg-type]
            raise exceptions.PublishError(returned, frame)
        return Basic.Ack()

    async def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:  # noqa: FBT001, FBT002
        for consumer, _ in self._settle(delivery_tag, multiple=multiple):
            consumer.queue.deliver()

    async def basic_nack(
        self,
        delivery_tag: int,
        multiple: bool = False,  # noqa: FBT001, FBT002
        requeue: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        for consumer, envelope in reversed(self._settle(delivery_tag, multiple=multiple)):
            if requeue:
                consumer.queue.requeue(envelope)
            else:
                consumer.queue.reject(envelope)
            consumer.queue.deliver()

    async def basic_reject(self, delivery_tag: int, *, requeue: bool = False) -> None:
        await self.basic_nack(delivery_tag, requeue=requeue)

    # As aio-pika names them

    @property
    def default_exchange(self) -> MemoryExchange:
        return MemoryExchange(self, "")

    async def set_qos(self, prefetch_count: int = 0, global_: bool = False) -> None:  # noqa: FBT001, FBT002
        self.prefetch_count = prefetch_count
        self.is_prefetch_shared = global_

    async def declare_queue(self, name: str = "", **declaration: Any) -> MemoryQueue:
        if name == REPLY_TO:
            return MemoryQueue(self, None)
        queue = await self.queue_declare(name, **_without_client_options(declaration))
        return MemoryQueue(self, queue)

    async def declare_exchange(
        self,
        name: str,
        type: str = "direct",  # noqa: A002
        **declaration: Any,
    ) -> MemoryExchange:
        await self.exchange_declare(name, exchange_type=type, **_without_client_options(declaration))
        return MemoryExchange(self, name)

    def consume(self, queue: Queue, callback: Callback, *, no_ack: bool) -> str:
        """Deliver the messages of the queue to the callback; return the tag of the consumer."""
        tag = f"ctag-{uuid.uuid4().hex}"
        self.consumers[tag] = consumer = MemoryConsumer(self, queue, tag, callback, no_ack=no_ack)
        queue.add_consumer(consumer)
        return tag

    def cancel_consumer(self, tag: str) -> None:
        """Take no more messages; what was taken is finished."""
        if consumer := self.consumers.pop(tag, None):
            consumer.queue.remove_consumer(consumer)

    def cancel(self) -> None:
        for tag in list(self.consumers):
            self.cancel_consumer(tag)

    async def close(self, exc: BaseException | None = None) -> None:  # noqa: ARG002
        """Cancel the consumers and give back what they have not settled, in its order."""
        self.is_closed = True
        self.cancel()
        unsettled, self._unsettled = self._unsettled, {}
        for consumer, envelope in reversed(unsettled.values()):
            consumer.queue.requeue(envelope)
            consumer.queue.deliver()

    def has_room_for(self, in_flight: int) -> bool:
        if not self.prefetch_count:
            return True
        return (len(self._unsettled) if self.is_prefetch_shared else in_flight) < self.prefetch_count

    def hold(self, consumer: MemoryConsumer, envelope: Envelope) -> int:
        """Remember the message until it is settled; return its delivery tag."""
        self._last_tag += 1
        self._unsettled[self._last_tag] = consumer, envelope
        return self._last_tag

    def drop(self, delivery_tag: int) -> None:
        """Forget a message that needs no acknowledgement."""
        for consumer, _ in self._settle(delivery_tag):
            consumer.queue.deliver()

    def _settle(self, delivery_tag: int, *, multiple: bool = False) -> list[tuple[MemoryConsumer, Envelope]]:
        tags = [tag for tag in self._unsettled if tag <= delivery_tag] if multiple else [delivery_tag]
        with self.server.lock:
            settled = [self._unsettled.pop(tag) for tag in tags if tag in self._unsettled]
            for consumer, _ in settled:
                consumer.in_flight -= 1
        return settled


def _without_client_options(declaration: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in declaration.items() if key not in {"timeout", "robust"}}


@contextlib.contextmanager
def _driver_errors() -> Iterator[None]:
    try:
        yield
    except ServerRefused as refused:
        error = ERRORS.get(refused.code, exceptions.ChannelClosed)
        raise error(str(refused)) from refused
