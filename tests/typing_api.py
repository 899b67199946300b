"""The public API as a user's type checker sees it; mypy reads this file, nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitQueue

from faststream_django import (
    Message,
    apublish,
    apublish_many,
    apublish_many_on_commit,
    apublish_on_commit,
    arequest,
    brokers,
    publish,
    publish_many,
    publish_many_on_commit,
    publish_on_commit,
    request,
)
from faststream_django.exceptions import BrokerUnavailable, BulkPublishError, PublishError, RequestFailed
from faststream_django.inbox import idempotent
from faststream_django.sync import SyncBroker
from faststream_django.testing import CapturedMessages, capture_messages, real_brokers


def numbers() -> Iterator[int]:
    yield 1


async def anumbers() -> AsyncIterator[int]:
    yield 1


def synchronous() -> None:
    message_id: str = publish({"id": 1}, "orders", timeout=2)
    publish(
        b"...", RabbitQueue("orders"), RabbitExchange("events"), headers={"x": 1}, expiration=timedelta(1)
    )
    publish(b"", "orders", app_id="shop", timeout=timedelta(seconds=2))
    count: int = publish_many(numbers(), "orders", broker="default")
    publish_on_commit({"id": 1}, "orders", using="default", robust=False, correlation_id=message_id)
    publish_on_commit({"id": 1}, "orders", ordering_key="order-1")
    publish_on_commit({"id": 1}, "orders", deliver_at=datetime(2030, 1, 1, tzinfo=UTC))
    ids: list[str] = publish_many_on_commit(numbers(), "orders", using="default", ordering_key="orders")
    print(ids)
    message: Message = Message.encode({"id": 1}, "orders")
    brokers["default"].send(message, timeout=1)
    is_connected: bool = brokers["default"].is_connected
    print(count, is_connected, "default" in brokers, list(brokers))


async def asynchronous() -> None:
    message_id: str = await apublish({"id": 1}, "orders")
    count: int = await apublish_many(anumbers(), "orders")
    await apublish_on_commit({"id": 1}, "orders", message_id=message_id, priority=count)
    ids: list[str] = await apublish_many_on_commit([{"id": 1}], "orders", deliver_at=datetime.now(UTC))
    print(ids)


def publish_the_rest() -> Message | None:
    try:
        publish_many(numbers(), "orders")
    except BulkPublishError as error:
        where: int | None = error.stopped_at
        print(where, error.errors[0].maybe_sent)
        return error.errors[0].message
    return None


def ask() -> str | None:
    try:
        price: int = request({"id": 1}, "prices", timeout=2, headers={"tenant": "blue"})["price"]
        print(price)
    except RequestFailed as error:
        return error.error_type
    return None


async def aask() -> None:
    print(await arequest({"id": 1}, RabbitQueue("prices"), priority=3, expiration=timedelta(seconds=1)))


def without_settings() -> None:
    with SyncBroker(RabbitBroker("amqp://guest:guest@localhost/")) as broker:
        broker.publish({"id": 1}, "orders", timeout=2)
        broker.publish_many(numbers(), "orders")


def fails_when_urgent(message: Message) -> type[PublishError] | None:
    return BrokerUnavailable if message.priority else None


@capture_messages(fail_with=[None, BrokerUnavailable], fail_on="audit")
def decorated(messages: CapturedMessages) -> str:
    return messages[0].message_id


async def under_test() -> None:
    with capture_messages(reply_with=lambda message: {"price": message.priority}):
        await aask()
    async with capture_messages(fail_with=fails_when_urgent) as messages, real_brokers("default"):
        await apublish({"id": 1}, "orders")
    print(messages.assert_published("orders", count=1)[0].body)


@idempotent
def handles_once(order: int) -> str:
    return str(order)


@idempotent(using="default", key=lambda message: message.body, consumer="billing")
def handles_once_by_key(order: int) -> str:
    return handles_once(order)


handled: str = handles_once_by_key(1)
