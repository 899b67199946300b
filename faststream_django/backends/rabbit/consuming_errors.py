"""What the broker says against consuming, translated into our own errors and words."""

from __future__ import annotations

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionInternalError,
)

from faststream_django.backends.rabbit.errors import words
from faststream_django.backends.rabbit.subscriptions import Subscription, subscriber_name
from faststream_django.exceptions import BrokerRefused, BrokerUnavailable

__all__ = ["not_consumed", "words_of_end"]

# An exclusive queue whose other connection is about to end; a broker that is about to start or to stop.
HEAL = (ChannelLockedResource, ConnectionInternalError)
# What RabbitMQ says of a queue whose node is away.
NODE_IS_AWAY = ("is down or inaccessible", "process is stopped by supervisor", "no leader")


def not_consumed(
    subscription: Subscription | None, declaration: str | None, error: BaseException | None
) -> BrokerUnavailable:
    """Say why a queue is not consumed: BrokerRefused if that does not heal by itself."""
    reason = words(error) if isinstance(error, Exception) else "unknown"
    queue = "" if subscription is None else f"queue {subscription.queue.name!r} "
    if isinstance(error, HEAL) or any(each in reason for each in NODE_IS_AWAY):
        return BrokerUnavailable(f"{queue}is not available: {reason}")
    if isinstance(error, ChannelNotFoundEntity) and subscription is not None:
        return BrokerRefused(f"{queue}cannot be consumed: {reason}. {_create(subscription)}")
    if isinstance(error, ChannelPreconditionFailed) and "inequivalent" in reason:
        return BrokerRefused(
            f"{declaration} exists and is not as it is declared here: {reason}. {_whose(subscription)}"
        )
    if isinstance(error, ChannelAccessRefused):
        return BrokerRefused(
            f"{declaration or queue.strip()} is refused: {reason}. Grant the user of the URL what it lacks."
        )
    return BrokerRefused(f"{declaration or queue.strip()} is refused: {reason}")


def words_of_end(reason: str) -> str:
    """Say why a channel ended, with the cure for what a handler can do to it."""
    if "delivery acknowledgement" in reason and "timed out" in reason:
        return (
            "a handler took longer than the consumer_timeout of the broker, which gave up on the channel "
            f"({reason}). What runs here goes on and is not handled twice by this process; another worker "
            "may begin it. Make the handler shorter, or raise consumer_timeout in rabbitmq.conf"
        )
    return reason


def _create(subscription: Subscription) -> str:
    queue = subscription.queue
    arguments = {"x-queue-type": queue.type, **queue.arguments}
    name = subscriber_name(subscription.subscriber)
    return (
        f"It is not declared here (the setting DECLARE, or RabbitQueue(declare=False) of {name}): "
        f"create it, durable={queue.durable}, with arguments {arguments}"
    )


def _whose(subscription: Subscription | None) -> str:
    where = "" if subscription is None else f" of {subscriber_name(subscription.subscriber)}"
    return f"Describe it as it is, in the settings or in the subscriber{where}, or delete it"
