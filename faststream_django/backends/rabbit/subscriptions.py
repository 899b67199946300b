"""What subscribers want to consume, and what their queues are like."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from faststream_django.backends.rabbit.topology import Declaration
from faststream_django.conf.entries import BrokerSettings
from faststream_django.conf.topology import QueueSettings
from faststream_django.exceptions import InvalidSubscriber

if TYPE_CHECKING:
    from aio_pika import IncomingMessage
    from faststream.rabbit.subscriber import RabbitSubscriber

__all__ = ["Callback", "Descriptions", "Subscription", "described", "subscriber_name"]

Callback = Callable[["IncomingMessage"], Awaitable[Any]]


@dataclass(eq=False, kw_only=True)
class Subscription:
    """What one subscriber consumes."""

    subscriber: RabbitSubscriber
    queue: QueueSettings
    consume: Callback
    acks_first: bool
    """Whether a message is acked when its handler begins, whatever comes of it (`AckPolicy.ACK_FIRST`)."""
    arguments: Mapping[str, Any]
    declare: Callable[[], tuple[Declaration, ...]]
    """Returns what is declared before it is consumed."""
    tag: str = field(default_factory=lambda: f"ctag-{uuid.uuid4().hex}")


class Descriptions:
    """What the queues are like: each as one place says, the settings or a subscriber."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._alias = settings.alias
        self._configured = {queue.name: queue for queue in settings.queues}
        self._described: dict[str, tuple[QueueSettings, str]] = {}

    def agreed(self, given: QueueSettings, name: str, *, is_passive: bool) -> QueueSettings:
        """Return what the queue of the subscriber `name` is like.

        Raise InvalidSubscriber where two places say different things.
        """
        if not given.name:  # each gets one of its own, which the broker names
            return given
        configured = self._configured.get(given.name)
        if configured is not None:
            if given not in (QueueSettings(name=given.name), replace(configured, bindings=())):
                raise InvalidSubscriber(
                    f"{name} describes queue {given.name!r} as {_words(given)}, and FASTSTREAM"
                    f"[{self._alias!r}]['QUEUES'] as {_words(configured)}. Name it by its name alone in the "
                    "subscriber: it is declared as the settings say."
                )
            return configured
        first, other = self._described.setdefault(given.name, (given, name))
        if given != first and not is_passive:
            raise InvalidSubscriber(
                f"{name} describes queue {given.name!r} as {_words(given)}, and {other} as "
                f"{_words(first)}. Describe it in one way, best in FASTSTREAM[{self._alias!r}]['QUEUES'] "
                "and by its name alone in the subscribers."
            )
        return first


def subscriber_name(subscriber: RabbitSubscriber) -> str:
    """Return where the handler of a subscriber is, as in "shop.subscribers.handle"."""
    for call in subscriber.calls:
        handler: Any = call.handler._declared_call  # noqa: SLF001
        return f"{handler.__module__}.{getattr(handler, '__qualname__', type(handler).__qualname__)}"
    return "a subscriber"


def described(name: str, declaration: Mapping[str, Any]) -> QueueSettings:
    """Return what a queue is like that FastStream declares with these arguments of aio-pika's."""
    arguments = dict(declaration.get("arguments") or {})
    return QueueSettings(
        name=name,
        type=arguments.pop("x-queue-type", "classic"),
        durable=declaration.get("durable", True),
        exclusive=declaration.get("exclusive", False),
        auto_delete=declaration.get("auto_delete", False),
        arguments=arguments,
    )


def _words(queue: QueueSettings) -> str:
    """Say what a queue is like, as in "quorum, x-delivery-limit=5"."""
    flags = [name for name in ("exclusive", "auto_delete") if getattr(queue, name)]
    if not queue.durable:
        flags.append("not durable")
    arguments = [f"{name}={value!r}" for name, value in queue.arguments.items()]
    return ", ".join([queue.type, *flags, *arguments])
