"""Which queues have dead letters, by their names."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

from faststream_django.conf.topology import QueueSettings
from faststream_django.worker import helper_queues
from faststream_django.worker.discovery import autodiscover
from faststream_django.worker.helper_queues import ConsumedQueue
from faststream_django.worker.source import queue_name

if TYPE_CHECKING:
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["dead_letter_queue", "declared_queues", "known_queues", "source_queue"]

SUFFIX = ".dlq"


def dead_letter_queue(queue: str) -> str:
    """Return the name of the queue that keeps the dead letters of a queue."""
    return helper_queues.dead_letter_queue(ConsumedQueue(queue)).name


def source_queue(name: str) -> str:
    """Return the queue that is meant: somebody may name its dead letters."""
    return name.removesuffix(SUFFIX) or name


def known_queues(settings: BrokerSettings) -> list[str]:
    """Return the queues that may have dead letters: those of the subscribers, and those of QUEUES.

    Whatever a module with subscribers raises when it is imported is raised here.
    """
    names = {queue_name(each) for each in _subscribers(settings)} | {each.name for each in settings.queues}
    return sorted(name for name in names if not name.endswith(SUFFIX))


def declared_queues(settings: BrokerSettings) -> dict[str, QueueSettings]:
    """Return the queues that this project declares, as far as it can be imported."""
    if settings.declare is not True:
        return {}
    found: dict[str, QueueSettings] = {}
    with suppress(Exception):  # what is not known is replayed more slowly
        for subscriber in _subscribers(settings):
            queue = subscriber.queue
            if queue.declare:
                arguments = dict(queue.arguments)
                found[queue_name(subscriber)] = QueueSettings(
                    name=queue_name(subscriber),
                    type=arguments.pop("x-queue-type", "classic"),
                    durable=queue.durable,
                    exclusive=queue.exclusive,
                    auto_delete=queue.auto_delete,
                    arguments=arguments,
                )
    return found | {each.name: each for each in settings.queues}


def _subscribers(settings: BrokerSettings) -> list[RabbitSubscriber]:
    return [
        subscriber
        for router in autodiscover().get(settings.alias, ())
        for subscriber in cast("list[RabbitSubscriber]", router.subscribers)
    ]
