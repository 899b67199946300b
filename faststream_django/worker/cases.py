"""One message that failed: how far its handling came, why it failed, and what may become of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faststream_django.worker.copies import Failure
from faststream_django.worker.discreet_logger import note_told, without_values
from faststream_django.worker.headers import FAILED, REJECTED, attempts_of
from faststream_django.worker.helper_queues import ConsumedQueue, consumed_queue
from faststream_django.worker.retrying import plan_of
from faststream_django.worker.verdicts import describe, reason_of

if TYPE_CHECKING:
    from aio_pika import IncomingMessage
    from faststream.message import StreamMessage
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["Case", "Delivery"]

logger = logging.getLogger("faststream_django.worker")


@dataclass(slots=True)
class Delivery:
    """A message that a subscriber got, and how far its handling came."""

    raw: IncomingMessage
    subscriber: RabbitSubscriber
    message: StreamMessage[Any] | None = None
    """As FastStream parsed it; None if no handler was found for it."""
    handler: Callable[..., Any] | None = None
    """As it was written."""
    is_handled: bool = False
    """The handler returned: what fails now is to publish its result."""

    @property
    def wants_reply(self) -> bool:
        """Whether somebody waits for a reply, and has none."""
        return bool(self.raw.reply_to) and not self.is_handled and not self.subscriber._no_reply  # noqa: SLF001


class Case:
    """One failure, as it is told and written down."""

    def __init__(self, settings: BrokerSettings, delivery: Delivery, error: BaseException) -> None:
        self.delivery = delivery
        self.error = error
        self.raw = delivery.raw
        self.queue: ConsumedQueue = consumed_queue(delivery.subscriber, settings)
        handler = delivery.handler or _only_handler(delivery.subscriber)
        self.plan = plan_of(handler, settings.worker)
        self.failure = Failure(
            queue=self.queue.name,
            attempts=attempts_of(self.raw.headers) + 1,
            reason=reason_of(error, delivery.message),
            error=describe(error, handler),
        )
        self.name = f"queue={self.queue.name!r} message_id={self.raw.message_id!r}"
        self._is_told = False

    @property
    def is_tried_again(self) -> bool:
        """Whether another attempt may succeed, and is allowed."""
        if (
            self.failure.reason != FAILED
            or not self.queue.name
            or self.failure.attempts >= self.plan.attempts
        ):
            return False
        # What is no Exception, as sys.exit() raises it, nobody can have listed.
        return (
            self.delivery.is_handled
            or not isinstance(self.error, Exception)
            or isinstance(self.error, self.plan.on)
        )

    def tell(self, what_next: str) -> None:
        """Write the line about this failure, once."""
        if self._is_told:
            return
        self._is_told = True
        failure = self.failure
        logger.error(
            "%s attempt=%d/%d reason=%s error=%r next=%r",
            self.name,
            failure.attempts,
            max(self.plan.attempts, failure.attempts),
            failure.reason,
            failure.error,
            what_next,
            exc_info=None if failure.reason == REJECTED else without_values(self.error),
            extra={
                "queue": self.queue.name,
                "message_id": self.raw.message_id,
                "correlation_id": self.raw.correlation_id,
                "attempt": failure.attempts,
                "reason": failure.reason,
            },
        )
        note_told(self.error)


def _only_handler(subscriber: RabbitSubscriber) -> Callable[..., Any] | None:
    """Return the handler of a subscriber that has one, for what failed before one was chosen."""
    calls = subscriber.calls
    return calls[0].handler._declared_call if len(calls) == 1 else None  # noqa: SLF001
