"""Which queue the message of the moment came from, for what runs around its handler."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faststream.rabbit.subscriber.usecase import RabbitSubscriber

__all__ = ["note_subscriber", "queue_name", "source_queue"]

_subscriber: ContextVar[Any] = ContextVar("faststream_django_subscriber", default=None)


def note_subscriber(subscriber: RabbitSubscriber) -> None:
    """Note whose message is handled in this task, and in the thread that runs its handler."""
    _subscriber.set(subscriber)


def source_queue() -> str:
    """Return the name of the queue that the message of the moment came from."""
    subscriber = _subscriber.get()
    if subscriber is None:
        raise RuntimeError("Only a handler that a worker of faststream_django runs has a queue.")
    return queue_name(subscriber)


def queue_name(subscriber: RabbitSubscriber) -> str:
    """Return the name of the queue as the broker knows it."""
    return f"{subscriber._outer_config.prefix}{subscriber.queue.name}"  # noqa: SLF001
