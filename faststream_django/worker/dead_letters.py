"""Hands messages over to the queues beside their own: confirmed by the broker, or known not to be."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from faststream_django.exceptions import (
    DeclarationError,
    InvalidMessage,
    MessageRejected,
    MessageUnroutable,
    PublishError,
)
from faststream_django.registry import brokers
from faststream_django.worker.copies import lightened
from faststream_django.worker.helper_queues import (
    HelperQueue,
    HelperQueueRefused,
    HelperQueues,
    HelperQueueUnavailable,
)

if TYPE_CHECKING:
    from faststream_django.conf.entries import BrokerSettings
    from faststream_django.messages.message import Message

__all__ = ["HandOver", "NotHandedOver"]

logger = logging.getLogger("faststream_django.worker")

PAUSES = (0.2, 1.0, 3.0)
"""Seconds between the attempts to hand a message over, which holds a place of the prefetch meanwhile."""


class NotHandedOver(Exception):
    """The other queue does not have the message, as far as is known.

    With `is_refused` it does not take it: it is full, or not there and cannot be declared.
    """

    def __init__(self, text: str, *, is_refused: bool) -> None:
        super().__init__(text)
        self.is_refused = is_refused


class HandOver:
    """Publishes copies to helper queues of one alias, and declares those that are missing."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.queues = HelperQueues(settings)
        self._alias = settings.alias

    async def hand_over(self, message: Message, queue: HelperQueue) -> None:
        """Return once the broker has confirmed that the queue has the message; else raise NotHandedOver.

        An attempt whose outcome is unknown is repeated: better twice, with the same id, than lost.
        """
        pauses = iter(PAUSES)
        while True:
            try:
                await self.queues.ensure(queue)
                return await self._send(message)
            except HelperQueueRefused as error:
                raise NotHandedOver(str(error), is_refused=True) from error
            except (PublishError, DeclarationError, HelperQueueUnavailable) as error:
                if isinstance(error, MessageUnroutable):
                    self.queues.forget(queue)
                pause = next(pauses, None)
                if pause is None:
                    is_refused = isinstance(error, MessageRejected | MessageUnroutable | InvalidMessage)
                    raise NotHandedOver(str(error), is_refused=is_refused) from error
                logger.debug("broker=%s queue=%r again in %gs: %s", self._alias, queue.name, pause, error)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311

    async def _send(self, message: Message) -> None:
        """Send a message, without those of its headers that it cannot be sent with."""
        lighter: Message | None = message
        while lighter is not None:
            try:
                # Not through the middlewares: they would, for example, encrypt once more what is encrypted.
                await brokers[self._alias].asend(lighter, processed=True)
                break
            except InvalidMessage:
                previous, lighter = lighter, lightened(lighter)
                if lighter is None:
                    raise
                self._tell_left_out(previous, lighter)

    def _tell_left_out(self, message: Message, lighter: Message) -> None:
        logger.warning(
            "broker=%s queue=%r message_id=%r is handed over without its headers %s: AMQP cannot carry "
            "them, or not in one frame",
            self._alias,
            message.routing_key,
            message.message_id,
            ", ".join(repr(name[:100]) for name in message.headers if name not in lighter.headers),
        )
