"""What becomes of a message that fails: FastStream's outermost middleware, which sees every failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from faststream._internal.middlewares import BaseMiddleware
from faststream.message.source_type import SourceType
from faststream.response.publish_type import PublishType

from faststream_django.worker.cases import Delivery
from faststream_django.worker.copies import restore
from faststream_django.worker.headers import QUEUE
from faststream_django.worker.settling import Settler
from faststream_django.worker.source import queue_name
from faststream_django.worker.verdicts import BodyTooLarge

if TYPE_CHECKING:
    from types import TracebackType

    from aio_pika import IncomingMessage
    from faststream._internal.context.repository import ContextRepo
    from faststream.message import StreamMessage
    from faststream.rabbit import RabbitBroker
    from faststream.rabbit.subscriber import RabbitSubscriber
    from faststream.response import PublishCommand

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["FailurePolicy", "tell_missing_queues"]

logger = logging.getLogger("faststream_django.worker")


class FailurePolicy:
    """Has the messages of one broker that fail handled again, or kept as dead letters.

    The first of the middlewares, so that it sees what the others raise. It settles the message, and
    FastStream leaves a settled message alone.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._settler = Settler(settings)
        self._most_bytes = settings.max_message_bytes

    def __call__(self, msg: IncomingMessage | None, /, *, context: ContextRepo) -> BaseMiddleware[Any, Any]:
        subscriber = context.get_local("handler_")
        # Not of a subscriber: what is published, a reply to a request, and what is taken with get_one().
        # Settled at its arrival: the subscriber acknowledges nothing.
        if msg is None or subscriber is None or msg.locked or msg.consumer_tag is None:
            return BaseMiddleware(msg, context=context)
        return _Watch(Delivery(msg, subscriber), context, self._settler, self._most_bytes)

    async def tell_missing_queues(self, subscribers: Iterable[RabbitSubscriber]) -> None:
        """Log what somebody has to create for these subscribers, where it is not declared here."""
        await self._settler.tell_missing_queues(filter(self._settler.is_asked, subscribers))


async def tell_missing_queues(broker: RabbitBroker, wants: Callable[[str], bool]) -> None:
    """Log what somebody has to create for the subscribers of the queues that are wanted."""
    subscribers = [
        each
        for each in cast("list[RabbitSubscriber]", broker.subscribers)
        if each.calls and wants(queue_name(each))
    ]
    for middleware in broker.middlewares:
        if isinstance(middleware, FailurePolicy):
            await middleware.tell_missing_queues(subscribers)


class _Watch(BaseMiddleware[Any, Any]):
    """Looks on while one message is handled."""

    __slots__ = ("_delivery", "_most_bytes", "_settler")

    def __init__(self, delivery: Delivery, context: ContextRepo, settler: Settler, most_bytes: int) -> None:
        super().__init__(delivery.raw, context=context)
        self._delivery = delivery
        self._settler = settler
        self._most_bytes = most_bytes

    async def on_receive(self) -> None:
        raw = self._delivery.raw
        if QUEUE in raw.headers:
            restore(raw, queue_name(self._delivery.subscriber))

    async def consume_scope(self, call_next: Callable[[Any], Any], msg: StreamMessage[Any]) -> Any:
        if msg.source_type is SourceType.RESPONSE:
            return await call_next(msg)
        self._delivery.message, self._delivery.handler = msg, _handler(call_next)
        if len(self._delivery.raw.body) > self._most_bytes and self._settler.is_asked(
            self._delivery.subscriber
        ):
            raise BodyTooLarge(
                f"the body has {len(self._delivery.raw.body):,} bytes, and MAX_MESSAGE_BYTES allows "
                f"{self._most_bytes:,}"
            )
        result = await call_next(msg)
        self._delivery.is_handled = True
        return result

    async def publish_scope(self, call_next: Callable[[Any], Any], cmd: PublishCommand) -> Any:
        if cmd.publish_type is not PublishType.REPLY:
            return await call_next(cmd)
        try:
            return await call_next(cmd)
        except Exception:
            # The request is handled, and handling it again would not bring the requester back.
            logger.exception(
                "queue=%r message_id=%r is handled, but its reply is not sent",
                queue_name(self._delivery.subscriber),
                self._delivery.raw.message_id,
            )
            return None

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        if exc_val is None or isinstance(exc_val, asyncio.CancelledError | GeneratorExit):
            return None
        return await self._settler.settle(self._delivery, exc_val)


def _handler(call: Any) -> Callable[..., Any]:
    """Return the handler at the end of FastStream's chain of middlewares, as it was written."""
    while isinstance(call, partial):
        call = call.args[0]
    declared: Callable[..., Any] = call.__self__._declared_call  # noqa: SLF001
    return declared
