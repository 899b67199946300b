"""Settles a message that failed: handled again later, a dead letter, an error reply, or given back."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from faststream_django.worker.cases import Case, Delivery
from faststream_django.worker.copies import copy_of
from faststream_django.worker.dead_letters import HandOver, NotHandedOver
from faststream_django.worker.discreet_logger import without_values
from faststream_django.worker.helper_queues import (
    HelperQueue,
    consumed_queue,
    dead_letter_queue,
    retry_queue,
)
from faststream_django.worker.places import leave_place, note_moved, pause
from faststream_django.worker.replies import error_reply
from faststream_django.worker.retrying import delay, delays, plan_of
from faststream_django.worker.source import queue_name

if TYPE_CHECKING:
    from aio_pika import IncomingMessage
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["Settler"]

logger = logging.getLogger("faststream_django.worker")

GIVE_BACK_PAUSE = 5.0
"""Seconds until a message goes back to its queue that could not be handed over: the broker delivers it again
at once."""


class Settler:
    """Settles the messages of one alias."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._hand_over = HandOver(settings)

    def is_asked(self, subscriber: RabbitSubscriber) -> bool:
        """Whether failures of the subscriber are settled here, and not by an AckPolicy of its own."""
        from faststream.middlewares import AckPolicy

        return subscriber.ack_policy is AckPolicy.REJECT_ON_ERROR

    async def tell_missing_queues(self, subscribers: Iterable[RabbitSubscriber]) -> None:
        """Log what somebody has to create for these subscribers, where it is not declared here."""
        if not self._hand_over.queues.may_declare:
            wanted = {each.name: each for subscriber in subscribers for each in self._helpers(subscriber)}
            await self._hand_over.queues.tell_missing(wanted.values())

    def _helpers(self, subscriber: RabbitSubscriber) -> Iterator[HelperQueue]:
        """Return the queues that messages of a subscriber may be handed over to."""
        worker = self._settings.worker
        queue = consumed_queue(subscriber, self._settings)
        for call in subscriber.calls:
            plan = plan_of(call.handler._declared_call, worker)  # noqa: SLF001
            waits = delays(plan.backoff, plan.attempts, vary=False)
            yield from (retry_queue(queue, wait) for wait in waits)
        if worker.dead_letters:
            yield dead_letter_queue(queue)

    async def settle(self, delivery: Delivery, error: BaseException) -> bool:
        """Settle a message whose handling raised; return whether the error ends here."""
        try:
            return await self._settle(delivery, error)
        except Exception as failure:
            name = f"queue={queue_name(delivery.subscriber)!r} message_id={delivery.raw.message_id!r}"
            logger.exception("%s could not be settled", name, exc_info=without_values(failure))
            await self._give_back(delivery.raw, name, failure)
            return True

    async def _settle(self, delivery: Delivery, error: BaseException) -> bool:
        from faststream.exceptions import HandlerException, RejectMessage, StopConsume

        if isinstance(error, HandlerException) and not (
            isinstance(error, RejectMessage) and self._buries(delivery, error)
        ):
            return False  # AckMessage, NackMessage: FastStream does what they say
        if isinstance(error, StopConsume):
            if self.is_asked(delivery.subscriber):
                await _settle(delivery.raw.nack)
            return False
        case = Case(self._settings, delivery, error)
        if delivery.raw.locked:
            case.tell("nothing, the handler has settled it")
            return False
        if not self.is_asked(delivery.subscriber):
            case.tell(f"left to the AckPolicy {delivery.subscriber.ack_policy.value}")
            return False
        leave_place()
        await self._decide(case)
        return not isinstance(error, SystemExit)  # with which FastStream ends the worker

    def _buries(self, delivery: Delivery, error: Any) -> bool:
        """Whether a rejected message becomes a dead letter: basic.reject would drop it."""
        return (
            self.is_asked(delivery.subscriber)
            and self._settings.worker.dead_letters
            and not error.extra_options.get("requeue")
        )

    async def _decide(self, case: Case) -> None:
        if case.delivery.wants_reply:
            case.tell("an error reply")
            if await error_reply(self._settings.alias, case.raw, case.error, queue=case.queue.name):
                await _settle(case.raw.ack)
                return
            logger.error("%s is a dead letter now, whoever sent it was not told", case.name)
        elif case.is_tried_again:
            await self._have_wait(case)
            return
        await self._bury(case)

    async def _have_wait(self, case: Case) -> None:
        queues, is_kept = self._hand_over.queues, self._settings.worker.dead_letters
        # Without jitter where each queue is one more to be created by hand.
        wait = delay(case.plan.backoff, case.failure.attempts, vary=queues.may_declare)
        target = retry_queue(case.queue, wait)
        if is_kept and queues.is_refused(target):
            await self._bury(case)
            return
        case.tell(f"again in {wait / 1000:g} s")
        try:
            await self._move(case, target)
        except NotHandedOver as error:
            if error.is_refused and is_kept:
                logger.error("%s is a dead letter now, it cannot wait: %s", case.name, error)  # noqa: TRY400
                await self._bury(case)
            else:
                await self._give_back(case.raw, case.name, error)

    async def _bury(self, case: Case) -> None:
        if not self._settings.worker.dead_letters or not case.queue.name:
            case.tell("dropped")
            await _settle(case.raw.reject)  # where its queue has a dead letter exchange, RabbitMQ keeps it
            return
        target = dead_letter_queue(case.queue)
        case.tell(f"a dead letter in {target.name!r}")
        try:
            await self._move(case, target)
        except NotHandedOver as error:
            await self._give_back(case.raw, case.name, error)

    async def _move(self, case: Case, target: HelperQueue) -> None:
        await self._hand_over.hand_over(copy_of(case.raw, case.failure, target.name), target)
        logger.debug("%s is in %r", case.name, target.name)
        note_moved()
        await _settle(case.raw.ack)

    async def _give_back(self, raw: IncomingMessage, name: str, why: Exception) -> None:
        logger.error("%s goes back to its queue in %g s: %s", name, GIVE_BACK_PAUSE, why)
        await pause(GIVE_BACK_PAUSE * random.uniform(0.8, 1.2))  # noqa: S311
        await _settle(raw.nack)


async def _settle(settle: Callable[[], Any]) -> None:
    """Tell the broker; if that is not possible, the message comes again, and FastStream need not try."""
    try:
        await settle()
    except Exception as error:  # noqa: BLE001 - of the driver, or of a connection that is gone
        raw: IncomingMessage = settle.__self__  # type: ignore[attr-defined]
        logger.debug("message_id=%r is delivered again: %s", raw.message_id, error)
        raw.lock()
