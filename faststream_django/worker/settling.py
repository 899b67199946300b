"""Settles a message that failed: handled again later, a dead letter, an error reply, or given back."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faststream_django.worker.copies import Failure, copy_of
from faststream_django.worker.dead_letters import HandOver, NotHandedOver
from faststream_django.worker.discreet_logger import note_told, without_values
from faststream_django.worker.headers import FAILED, REJECTED, attempts_of
from faststream_django.worker.helper_queues import (
    ConsumedQueue,
    HelperQueue,
    consumed_queue,
    dead_letter_queue,
    retry_queue,
)
from faststream_django.worker.places import leave_place, pause
from faststream_django.worker.replies import error_reply
from faststream_django.worker.retrying import delay, policy_of
from faststream_django.worker.verdicts import describe, reason_of

if TYPE_CHECKING:
    from aio_pika import IncomingMessage
    from faststream.message import StreamMessage
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings
    from faststream_django.worker.options import RetryPolicy

__all__ = ["Delivery", "Settler"]

logger = logging.getLogger("faststream_django.worker")

GIVE_BACK_PAUSE = 5.0
"""Seconds until a message goes back to its queue that could not be handed over: the broker delivers it again
at once."""


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
        return bool(self.raw.reply_to) and not self.subscriber._no_reply  # noqa: SLF001


class Settler:
    """Settles the messages of one alias."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._hand_over = HandOver(settings)

    def is_asked(self, delivery: Delivery) -> bool:
        """Whether failures of the subscriber are settled here, and not by an AckPolicy of its own."""
        from faststream.middlewares import AckPolicy

        return delivery.subscriber.ack_policy is AckPolicy.REJECT_ON_ERROR

    async def settle(self, delivery: Delivery, error: BaseException) -> bool:
        """Settle a message whose handling raised; return whether the error ends here."""
        from faststream.exceptions import HandlerException, RejectMessage, StopConsume

        if isinstance(error, HandlerException) and not (
            isinstance(error, RejectMessage) and self._buries(delivery, error)
        ):
            return False  # AckMessage, NackMessage: FastStream does what they say
        if isinstance(error, StopConsume):
            if self.is_asked(delivery):
                await _settle(delivery.raw.nack)
            return False
        case = _Case(self._settings, delivery, error)
        if delivery.raw.locked:
            case.tell("nothing, the handler has settled it")
            return False
        if not self.is_asked(delivery):
            case.tell(f"left to the AckPolicy {delivery.subscriber.ack_policy.value}")
            return False
        leave_place()
        try:
            await self._settle(case)
        except Exception as failure:
            logger.exception("%s could not be settled", case.name, exc_info=without_values(failure))
            await self._give_back(case, failure)
        return not isinstance(error, SystemExit)  # with which FastStream ends the worker

    def _buries(self, delivery: Delivery, error: Any) -> bool:
        """Whether a rejected message becomes a dead letter: basic.reject would drop it."""
        return (
            self.is_asked(delivery)
            and self._settings.worker.dead_letters
            and not error.extra_options.get("requeue")
        )

    async def _settle(self, case: _Case) -> None:
        if case.delivery.wants_reply:
            case.tell("an error reply")
            if await error_reply(self._settings.alias, case.raw, case.error, queue=case.queue.name):
                await _settle(case.raw.ack)
                return
            logger.error("%s is a dead letter now, whoever sent it was not told", case.name)
        elif case.is_tried_again:
            vary = self._hand_over.queues.may_declare  # else each of them is one more queue to create by hand
            wait = delay(case.policy.backoff or (1.0, 1.0), case.failure.attempts, vary=vary)
            case.tell(f"again in {wait / 1000:g} s")
            try:
                await self._move(case, retry_queue(case.queue, wait))
            except NotHandedOver as refused:
                if not (refused.is_refused and self._settings.worker.dead_letters):
                    await self._give_back(case, refused)
                    return
                logger.error("%s is a dead letter now, it cannot wait: %s", case.name, refused)  # noqa: TRY400
            else:
                return
        await self._bury(case)

    async def _bury(self, case: _Case) -> None:
        if not self._settings.worker.dead_letters or not case.queue.name:
            case.tell("dropped")
            await _settle(case.raw.reject)  # where its queue has a dead letter exchange, RabbitMQ keeps it
            return
        target = dead_letter_queue(case.queue)
        case.tell(f"a dead letter in {target.name!r}")
        try:
            await self._move(case, target)
        except NotHandedOver as refused:
            await self._give_back(case, refused)

    async def _move(self, case: _Case, target: HelperQueue) -> None:
        await self._hand_over.hand_over(copy_of(case.raw, case.failure, target.name), target)
        logger.debug("%s is in %r", case.name, target.name)
        await _settle(case.raw.ack)

    async def _give_back(self, case: _Case, why: Exception) -> None:
        logger.error("%s goes back to its queue in %g s: %s", case.name, GIVE_BACK_PAUSE, why)
        await pause(GIVE_BACK_PAUSE * random.uniform(0.8, 1.2))  # noqa: S311
        await _settle(case.raw.nack)


class _Case:
    """One failure, as it is told and written down."""

    def __init__(self, settings: BrokerSettings, delivery: Delivery, error: BaseException) -> None:
        self.delivery = delivery
        self.error = error
        self.raw = delivery.raw
        self.queue: ConsumedQueue = consumed_queue(delivery.subscriber, settings)
        handler = delivery.handler or _only_handler(delivery.subscriber)
        self.policy: RetryPolicy = policy_of(handler, settings.worker)
        self.failure = Failure(
            queue=self.queue.name,
            attempts=attempts_of(self.raw.headers) + 1,
            reason=reason_of(error, delivery.message),
            error=describe(error, handler),
        )
        self.name = f"queue={self.queue.name!r} message_id={self.raw.message_id!r}"
        self._is_told = False

    @property
    def most_attempts(self) -> int:
        return self.policy.attempts or 1

    @property
    def is_tried_again(self) -> bool:
        """Whether another attempt may succeed, and is allowed."""
        if (
            self.failure.reason != FAILED
            or not self.queue.name
            or self.failure.attempts >= self.most_attempts
        ):
            return False
        # What is no Exception, as sys.exit() raises it, nobody can have listed.
        return (
            self.delivery.is_handled
            or not isinstance(self.error, Exception)
            or isinstance(self.error, self.policy.on)
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
            max(self.most_attempts, failure.attempts),
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


async def _settle(settle: Callable[[], Any]) -> None:
    """Tell the broker; if that is not possible, the message comes again, and FastStream need not try."""
    try:
        await settle()
    except Exception as error:  # noqa: BLE001 - of the driver, or of a connection that is gone
        raw: IncomingMessage = settle.__self__  # type: ignore[attr-defined]
        logger.debug("message_id=%r is delivered again: %s", raw.message_id, error)
        raw.lock()


def _only_handler(subscriber: RabbitSubscriber) -> Callable[..., Any] | None:
    """Return the handler of a subscriber that has one, for what failed before one was chosen."""
    calls = subscriber.calls
    return calls[0].handler._declared_call if len(calls) == 1 else None  # noqa: SLF001
