"""A FastStream broker that consumes for Django apps."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import ThreadSensitiveContext

from faststream_django.worker.database import clean_up_around
from faststream_django.worker.discreet_logger import DiscreetLogger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from faststream.rabbit import RabbitBroker, RabbitRouter

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["PREFETCH", "build_broker"]

logger = logging.getLogger("faststream_django.worker")

PREFETCH = 10
"""Messages that a subscriber has in hand at most; one with a `Channel` of its own sets its own."""


def build_broker(
    settings: BrokerSettings, routers: Iterable[RabbitRouter], url: str | None = None
) -> RabbitBroker:
    """Return a FastStream broker that consumes for these routers, safe for Django's ORM.

    A router belongs to one broker at a time: it leaves the one that it was built into before.
    """
    from faststream._internal.di import FastDependsConfig
    from faststream.rabbit import Channel, RabbitBroker

    options: dict[str, Any] = {
        "logger": logger,  # FastStream's own would write to stdout
        "log_level": logging.DEBUG,
        "graceful_timeout": settings.shutdown_timeout,
        **settings.options,
    }
    if options["logger"] is not None:
        options["logger"] = DiscreetLogger(options["logger"])
    options["client_properties"] = {
        "heartbeat": settings.heartbeat,
        **options.get("client_properties", {}),
    }
    broker = RabbitBroker(
        url or next(iter(settings.urls), "amqp://"),
        timeout=settings.connect_timeout,
        default_channel=Channel(prefetch_count=PREFETCH),
        routers=routers,
        **options,
    )
    # The only place that runs in the thread of a sync handler: a middleware runs on the loop.
    clean_up = partial(clean_up_around, ThreadSensitiveContext())
    broker._update_fd_config(FastDependsConfig(call_decorators=(clean_up,)))  # noqa: SLF001
    return broker
