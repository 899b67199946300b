"""Declares the configured exchanges, queues and bindings when a connection is made."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator

from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelClosed, ChannelInvalidStateError

from faststream_django.conf import BrokerSettings
from faststream_django.topology import Binding, ExchangeSettings, QueueSettings

__all__ = ["declare_topology"]

logger = logging.getLogger("faststream_django.connection")

Step = Callable[[AbstractChannel], Awaitable[object]]


async def declare_topology(connection: AbstractConnection, settings: BrokerSettings) -> dict[str, str]:
    """Declare on channels of their own; return why a name could not be declared.

    A failed declaration is logged at ERROR and keeps nothing else from being declared or published:
    the broker closes the channel for it, so the next step gets a new one.
    """
    errors: dict[str, str] = {}
    if not settings.declare or not (settings.queues or settings.exchanges):
        return errors
    channel: AbstractChannel | None = None
    for name, step in _steps(settings):
        if channel is None or channel.is_closed:
            channel = await connection.channel(publisher_confirms=False)
        try:
            await step(channel)
        except (ChannelClosed, ChannelInvalidStateError) as error:
            errors.setdefault(name, str(error))
            logger.error("broker=%s declare=%r error=%r", settings.alias, name, str(error))  # noqa: TRY400
            channel = None
    if channel is not None:
        await channel.close()
    return errors


def _steps(settings: BrokerSettings) -> Iterator[tuple[str, Step]]:
    passive = settings.declare == "passive"
    for exchange in settings.exchanges:
        yield exchange.name, _exchange_step(exchange, passive=passive)
    for queue in settings.queues:
        yield queue.name, _queue_step(queue, passive=passive)
    if passive:  # AMQP has no passive bind
        return
    for exchange in settings.exchanges:
        for binding in exchange.bindings:
            yield exchange.name, _bind_step(exchange.name, binding, to_queue=False)
    for queue in settings.queues:
        for binding in queue.bindings:
            yield queue.name, _bind_step(queue.name, binding, to_queue=True)


def _exchange_step(exchange: ExchangeSettings, *, passive: bool) -> Step:
    return lambda channel: channel.exchange_declare(
        exchange.name,
        exchange_type=exchange.type,
        passive=passive,
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        internal=exchange.internal,
        arguments=dict(exchange.arguments),
    )


def _queue_step(queue: QueueSettings, *, passive: bool) -> Step:
    # As FastStream declares it, so that a subscriber of the same queue agrees.
    arguments = {"x-queue-type": queue.type, **queue.arguments}
    return lambda channel: channel.queue_declare(
        queue.name,
        passive=passive,
        durable=queue.durable,
        exclusive=queue.exclusive,
        auto_delete=queue.auto_delete,
        arguments=arguments,
    )


def _bind_step(name: str, binding: Binding, *, to_queue: bool) -> Step:
    arguments = dict(binding.arguments)
    if to_queue:
        return lambda channel: channel.queue_bind(
            name, binding.source, routing_key=binding.routing_key, arguments=arguments
        )
    return lambda channel: channel.exchange_bind(
        name, binding.source, routing_key=binding.routing_key, arguments=arguments
    )
