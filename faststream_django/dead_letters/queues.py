"""Which queues have dead letters, by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from faststream_django.worker.discovery import autodiscover

if TYPE_CHECKING:
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["dead_letter_queue", "known_queues", "source_queue"]

SUFFIX = ".dlq"


def dead_letter_queue(queue: str) -> str:
    """Return the name of the queue that keeps the dead letters of a queue."""
    return f"{queue}{SUFFIX}"


def source_queue(name: str) -> str:
    """Return the queue that is meant: somebody may name its dead letters."""
    return name.removesuffix(SUFFIX) or name


def known_queues(settings: BrokerSettings) -> list[str]:
    """Return the queues that may have dead letters: those of the subscribers, and those of QUEUES.

    Whatever a module with subscribers raises when it is imported is raised here.
    """
    consumed = {
        f"{subscriber._outer_config.prefix}{subscriber.queue.name}"  # noqa: SLF001
        for router in autodiscover()
        for subscriber in cast("list[RabbitSubscriber]", router.subscribers)
    }
    names = consumed | {each.name for each in settings.queues}
    return sorted(name for name in names if not name.endswith(SUFFIX))
