"""What becomes of a message that fails: FastStream's outermost middleware, which sees every failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

from faststream._internal.middlewares import BaseMiddleware
from faststream.response.publish_type import PublishType

from faststream_django.worker.cases import Delivery
from faststream_django.worker.copies import restore
from faststream_django.worker.discreet_logger import note_told
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
        self.settler = Settler(settings)
        self.most_bytes = settings.max_message_bytes

    def __call__(self, msg: IncomingMessage | None, /, *, context: ContextRepo) -> BaseMiddleware[Any, Any]:
        # Not of a subscriber: what is published, a reply to a request, and what is taken with get_one().
        # Settled at its arrival: the subscriber acknowledges nothing.
        if msg is None or msg.locked or msg.consumer_tag is None:
            return BaseMiddleware(msg, context=context)
        return _Watch(msg, context, self)

    async def tell_missing_queues(self, subscribers: Iterable[RabbitSubscriber]) -> None:
        """Log what somebody has to create for these subscribers, where it is not declared here."""
        await self.settler.tell_missing_queues(filter(self.settler.is_asked, subscribers))


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
    """Looks on while one message is handled.

    It is in the way of every message, so that it does little: what only a failure needs, waits for one.
    """

    __slots__ = ("_call", "_is_handled", "_message", "_policy")

    def __init__(self, raw: IncomingMessage, context: ContextRepo, policy: FailurePolicy) -> None:
        self.msg = raw
        self.context = context
        self._policy = policy
        self._message: StreamMessage[Any] | None = None
        self._call: Any = None
        self._is_handled = False

    async def __aenter__(self) -> Self:
        if QUEUE in self.msg.headers:
            restore(self.msg, queue_name(self._subscriber))
        return self

    def consume_scope(self, call_next: Callable[[Any], Any], msg: StreamMessage[Any]) -> Any:
        self._message, self._call = msg, call_next
        if len(self.msg.body) > self._policy.most_bytes and self._policy.settler.is_asked(self._subscriber):
            raise BodyTooLarge(
                f"the body has {len(self.msg.body):,} bytes, and MAX_MESSAGE_BYTES allows "
                f"{self._policy.most_bytes:,}"
            )
        return call_next(msg)

    async def publish_scope(self, call_next: Callable[[Any], Any], cmd: PublishCommand) -> Any:
        self._is_handled = True
        if cmd.publish_type is not PublishType.REPLY:
            return await call_next(cmd)
        try:
            return await call_next(cmd)
        except Exception:
            # The request is handled, and handling it again would not bring the requester back.
            logger.exception(
                "queue=%r message_id=%r is handled, but its reply is not sent",
                queue_name(self._subscriber),
                self.msg.message_id,
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
        delivery = Delivery(
            raw=self.msg,
            subscriber=self._subscriber,
            message=self._message,
            handler=None if self._call is None else _handler(self._call),
            is_handled=self._is_handled,
        )
        try:
            return await self._policy.settler.settle(delivery, exc_val)
        except asyncio.CancelledError as cut_off:  # the process ends: the message comes again
            note_told(cut_off)
            raise

    @property
    def _subscriber(self) -> RabbitSubscriber:
        subscriber: RabbitSubscriber = self.context.get_local("handler_")
        return subscriber


def _handler(call: Any) -> Callable[..., Any]:
    """Return the handler at the end of FastStream's chain of middlewares, as it was written."""
    while isinstance(call, partial):
        call = call.args[0]
    declared: Callable[..., Any] = call.__self__._declared_call  # noqa: SLF001
    return declared
