"""The public API as a user's type checker sees it; mypy reads this file, nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitQueue

from faststream_django import (
    Message,
    apublish,
    apublish_many,
    apublish_on_commit,
    brokers,
    publish,
    publish_many,
    publish_on_commit,
)
from faststream_django.sync import SyncBroker


def numbers() -> Iterator[int]:
    yield 1


async def anumbers() -> AsyncIterator[int]:
    yield 1


def synchronous() -> None:
    message_id: str = publish({"id": 1}, "orders", timeout=2)
    publish(
        b"...", RabbitQueue("orders"), RabbitExchange("events"), headers={"x": 1}, expiration=timedelta(1)
    )
    count: int = publish_many(numbers(), "orders", broker="default")
    publish_on_commit({"id": 1}, "orders", using="default", robust=False, correlation_id=message_id)
    message: Message = Message.encode({"id": 1}, "orders")
    brokers["default"].send(message, timeout=1)
    print(count, "default" in brokers, list(brokers))


async def asynchronous() -> None:
    message_id: str = await apublish({"id": 1}, "orders")
    count: int = await apublish_many(anumbers(), "orders")
    await apublish_on_commit({"id": 1}, "orders", message_id=message_id, priority=count)


def without_settings() -> None:
    with SyncBroker(RabbitBroker("amqp://guest:guest@localhost/")) as broker:
        broker.publish({"id": 1}, "orders", timeout=2)
        broker.publish_many(numbers(), "orders")
