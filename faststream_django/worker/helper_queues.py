"""The queues beside a consumed one: where its messages wait for another attempt, and where dead ones lie.

They are declared when the first message needs them, and never with other arguments than those that their
name stands for. What somebody else has declared under these names is taken as it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faststream_django.exceptions import DeclarationError, DeclarationRefused, PublishError
from faststream_django.registry import brokers
from faststream_django.worker.source import queue_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings

__all__ = [
    "ConsumedQueue",
    "HelperQueue",
    "HelperQueueRefused",
    "HelperQueueUnavailable",
    "HelperQueues",
    "consumed_queue",
    "dead_letter_queue",
    "retry_queue",
]

logger = logging.getLogger("faststream_django.worker")

REFUSED_FOR = 30.0
"""Seconds until a queue that was refused is asked for again."""

MISSING = "NOT_FOUND - no queue "
"""How RabbitMQ begins to say that there is no such queue; that its node is down it says in other words."""


class HelperQueueRefused(Exception):
    """The queue is not there, and we may not or cannot declare it; waiting does not help."""


class HelperQueueUnavailable(Exception):
    """The queue is there, and cannot be used now."""


@dataclass(frozen=True, slots=True)
class ConsumedQueue:
    """A queue that is consumed."""

    name: str
    type: str = "classic"


@dataclass(frozen=True, slots=True)
class HelperQueue:
    """A queue that its messages are handed over to."""

    name: str
    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def recipe(self) -> str:
        """What whoever declares it must know."""
        return f"{self.name!r} (durable, type {self.type}, arguments {json.dumps(dict(self.arguments))})"


def consumed_queue(subscriber: RabbitSubscriber, settings: BrokerSettings) -> ConsumedQueue:
    """Return the queue of a subscriber; its type is what the settings say, or else the subscriber."""
    name = queue_name(subscriber)
    kind = str(subscriber.queue.arguments.get("x-queue-type", "classic"))
    return ConsumedQueue(name, next((each.type for each in settings.queues if each.name == name), kind))


def retry_queue(queue: ConsumedQueue, milliseconds: int) -> HelperQueue:
    """Return the queue where a message waits so long; then RabbitMQ puts it back into its own.

    The time is that of the queue and not of the message: RabbitMQ only looks at the message at the head, and
    a short wait behind a long one would take as long.
    """
    helper = _helper(queue, f"{queue.name}.retry.{milliseconds}")
    back = {
        "x-message-ttl": milliseconds,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue.name,
    }
    if helper.type == "quorum":
        # Without it 1,894 of 8,000 messages were lost when a node was killed as they expired.
        back["x-dead-letter-strategy"] = "at-least-once"
    return HelperQueue(helper.name, helper.type, {**helper.arguments, **back})


def dead_letter_queue(queue: ConsumedQueue) -> HelperQueue:
    """Return the queue where the messages lie that nobody will handle by itself again."""
    helper = _helper(queue, f"{queue.name}.dlq")
    if helper.type == "quorum":
        # RabbitMQ 4 drops a message that was looked at and put back 20 times. No limit would be -1 there, but
        # RabbitMQ 3.10 drops a message of such a queue that is put back for the first time.
        return HelperQueue(helper.name, helper.type, {**helper.arguments, "x-delivery-limit": 2**31 - 1})
    return helper


def _helper(queue: ConsumedQueue, name: str) -> HelperQueue:
    # A stream is replicated, and nothing can be taken out of it: what stands beside it is a quorum queue.
    kind = "classic" if queue.type == "classic" else "quorum"
    # The default, drop-head, confirms what it drops where a policy of the broker limits the length.
    return HelperQueue(name, kind, {"x-overflow": "reject-publish"})


class HelperQueues:
    """Knows which helper queues of an alias exist, and declares those that do not."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.may_declare = settings.declare is True
        self._settings = settings
        self._existing: set[str] = set()
        self._refused: dict[str, tuple[str, float]] = {}
        self._told: set[tuple[str, str]] = set()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, queue: HelperQueue) -> None:
        """Return once the queue is known to exist; raise HelperQueueRefused or what else went wrong."""
        if queue.name in self._existing:
            return
        async with self._locks[queue.name]:
            if queue.name in self._existing:
                return
            if self.is_refused(queue):
                raise HelperQueueRefused(self._refused[queue.name][0])
            await self._find_or_declare(queue)
            self._existing.add(queue.name)

    def is_refused(self, queue: HelperQueue) -> bool:
        """Tell whether the queue was refused a short time ago."""
        _, until = self._refused.get(queue.name, ("", 0.0))
        return asyncio.get_running_loop().time() < until

    def forget(self, queue: HelperQueue) -> None:
        """Look for the queue again: somebody deleted it."""
        self._existing.discard(queue.name)

    async def tell_missing(self, queues: Iterable[HelperQueue]) -> None:
        """Log which of these queues do not exist. Without an answer of the broker, nothing."""
        missing = []
        for queue in queues:
            try:
                reason = await self._declare(queue, passive=True)
            except (PublishError, DeclarationError) as error:
                logger.debug(
                    "broker=%s queue=%r is not looked for: %s", self._settings.alias, queue.name, error
                )
                return
            if reason.startswith(MISSING):
                missing.append(queue.recipe)
                self._told.add((queue.name, reason))
        if missing:
            logger.error(
                "broker=%s queues are missing for messages that fail, and DECLARE is %r: none is lost, but "
                "they hold others up. Create %s.",
                self._settings.alias,
                self._settings.declare,
                "; ".join(missing),
            )

    async def _find_or_declare(self, queue: HelperQueue) -> None:
        # Asked for first, since it may be there with other arguments, and without the right to declare it.
        missing = await self._declare(queue, passive=True)
        if not missing:
            return
        if not missing.startswith(MISSING):
            raise HelperQueueUnavailable(missing)
        if not self.may_declare:
            self._refuse(
                queue, f"there is no queue {queue.name!r}, and DECLARE is {self._settings.declare!r}", missing
            )
        refusal = await self._declare(queue, passive=False)
        if refusal:
            self._refuse(queue, f"queue {queue.name!r} cannot be declared: {refusal}", refusal)

    async def _declare(self, queue: HelperQueue, *, passive: bool) -> str:
        """Declare it; return the reason why it was refused, or an empty text."""
        options = {"type": queue.type, "arguments": dict(queue.arguments)}
        try:
            await brokers[self._settings.alias].adeclare({queue.name: options}, passive=passive)
        except DeclarationRefused as error:
            return "; ".join(error.reasons.values()) or str(error)
        return ""

    def _refuse(self, queue: HelperQueue, what: str, reason: str) -> None:
        self._refused[queue.name] = what, asyncio.get_running_loop().time() + REFUSED_FOR
        if (queue.name, reason) not in self._told:
            self._told.add((queue.name, reason))
            logger.error("broker=%s %s. Create %s.", self._settings.alias, what, queue.recipe)
        raise HelperQueueRefused(what)
