"""A FastStream broker that consumes for Django apps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from faststream_django.worker.discreet_logger import DiscreetLogger
from faststream_django.worker.handling import ASYNC_HANDLERS
from faststream_django.worker.threads import HandlerThreads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from faststream.rabbit import RabbitBroker, RabbitRouter
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings
    from faststream_django.conf.worker import WorkerSettings

__all__ = ["build_broker", "is_threaded", "prefetch_of"]

logger = logging.getLogger("faststream_django.worker")


def build_broker(
    settings: BrokerSettings,
    routers: Iterable[RabbitRouter],
    threads: HandlerThreads | None = None,
) -> RabbitBroker:
    """Return a FastStream broker that consumes for these routers, safe for Django's ORM.

    A router belongs to one broker at a time: it leaves the one that it was built into before. Whoever
    starts the broker brings the connection; its own is never made.
    """
    from faststream.rabbit import Channel, RabbitBroker

    from faststream_django.worker.failures import FailurePolicy
    from faststream_django.worker.injection import call_in_threads

    options: dict[str, Any] = {
        "logger": logger,  # FastStream's own would write to stdout
        "log_level": logging.DEBUG,
        "graceful_timeout": settings.shutdown_timeout,
        **settings.options,
    }
    if options["logger"] is not None:
        options["logger"] = DiscreetLogger(options["logger"])
    broker = RabbitBroker(
        next(iter(settings.urls), "amqp://"),
        default_channel=Channel(prefetch_count=settings.worker.prefetch or settings.worker.concurrency),
        routers=routers,
        **options,
    )
    call_in_threads(broker, threads or HandlerThreads(settings.worker.concurrency))
    _publish_through_connection(broker, settings)
    broker.insert_middleware(FailurePolicy(settings))
    return broker


def is_threaded(subscriber: RabbitSubscriber) -> bool:
    """Tell whether a subscriber has a handler that is a plain function, and so runs in a thread."""
    from fast_depends.utils import is_coroutine_callable

    return not all(
        is_coroutine_callable(call.handler._declared_call)  # noqa: SLF001
        for call in subscriber.calls
    )


def prefetch_of(subscriber: RabbitSubscriber, settings: WorkerSettings) -> int:
    """Return how many messages a subscriber holds at most: as many as it can handle at once, unless told."""
    return settings.prefetch or (settings.concurrency if is_threaded(subscriber) else ASYNC_HANDLERS)


def _publish_through_connection(broker: RabbitBroker, settings: BrokerSettings) -> None:
    from faststream_django.worker.producer import WorkerProducer

    broker.config.broker_config.producer = WorkerProducer(settings, broker)
