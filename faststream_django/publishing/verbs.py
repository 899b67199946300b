"""The verbs: publish now, one message or many."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Unpack

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

from faststream_django.connection.errors import conclude_bulk
from faststream_django.exceptions import PublishError
from faststream_django.loop.foreign_loops import foreign_loop
from faststream_django.loop.thread import loop_thread
from faststream_django.publishing.announcements import aannounce, aannounce_chunk, announce, announce_chunk
from faststream_django.publishing.failover import stored_instead, wants_to_store
from faststream_django.publishing.outgoing import (
    PublishOptions,
    aitems,
    encode,
    items,
    refuse_one_message,
    spelled_out,
    target,
)
from faststream_django.registry import brokers

if TYPE_CHECKING:
    from faststream.rabbit import RabbitExchange, RabbitQueue

__all__ = [
    "apublish",
    "apublish_many",
    "publish",
    "publish_many",
    "refuse_foreign_loop",
    "refuse_in_event_loop",
]


@spelled_out
def publish(
    message: Any,
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    **options: Unpack[PublishOptions],
) -> str:
    """Publish a message and return its id once the broker has confirmed it.

    A confirmed message is in every queue it was routed to; a persistent one (the default) in a durable
    queue is on disk, and in a quorum queue on a majority of its nodes. Otherwise raises a PublishError
    within ``timeout`` seconds; its ``maybe_sent`` says whether the broker may have the message. With
    ``"ON_FAILURE": "outbox"`` a message that certainly was not sent, for the lack of a broker, is stored in
    the outbox instead; its id is returned and the signal message_deferred sent.
    Raises InvalidMessage before anything is sent if the payload or an option is wrong, and
    SynchronousOnlyOperation in a running event loop, where you await apublish() instead.

    message: comes first; whatever FastStream takes: a dict, list, str, bytes, dataclass, pydantic model ...
    queue, exchange, routing_key: where it goes; the routing key defaults to that of the queue
    broker: the alias in settings.FASTSTREAM; default "default"
    headers: a dict of str, bool, int, float, Decimal, datetime, bytes, None, lists and dicts; at most 64 kB
    message_id, correlation_id: str or UUID; default a new UUID, and the message id
    reply_to, content_type, content_encoding, message_type, app_id: str of at most 255 bytes
    expiration: seconds, timedelta or aware datetime, after which the broker may drop the message
    priority: 0 to 255
    timestamp: datetime or seconds since the epoch, sent in whole seconds; default now
    persist, mandatory: survive a restart of the broker; raise if no queue takes it; both default to True
    timeout: seconds or timedelta for the whole call; default the TIMEOUT of the alias
    """
    refuse_in_event_loop("publish", "apublish")
    outgoing = encode(message, queue, exchange, options)
    try:
        brokers[outgoing.broker].send(outgoing.message, outgoing.timeout)
    except PublishError as error:
        if wants_to_store(outgoing.broker, error) and stored_instead(outgoing, error):
            return outgoing.message.message_id
        announce(outgoing.message, outgoing.broker, error)
        raise
    announce(outgoing.message, outgoing.broker)
    return outgoing.message.message_id


@spelled_out
@markcoroutinefunction
def apublish(
    message: Any,
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    **options: Unpack[PublishOptions],
) -> Coroutine[Any, Any, str]:
    """See publish(). Messages that one task has under way are sent in the order of its calls."""
    try:
        caller = asyncio.current_task()  # of the call: the coroutine may run in a task of its own
    except RuntimeError:
        caller = None
    return _apublish(message, queue, exchange, options, caller)


async def _apublish(
    message: Any,
    queue: str | RabbitQueue,
    exchange: str | RabbitExchange | None,
    options: PublishOptions,
    caller: object,
) -> str:
    refuse_foreign_loop("apublish", "publish")
    outgoing = encode(message, queue, exchange, options)
    try:
        await brokers[outgoing.broker].asend(outgoing.message, outgoing.timeout, caller)
    except PublishError as error:
        if wants_to_store(outgoing.broker, error) and await sync_to_async(stored_instead)(outgoing, error):
            return outgoing.message.message_id
        await aannounce(outgoing.message, outgoing.broker, error)
        raise
    await aannounce(outgoing.message, outgoing.broker)
    return outgoing.message.message_id


@spelled_out
def publish_many(
    messages: Iterable[Any],
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    **options: Unpack[PublishOptions],
) -> int:
    """Publish messages pipelined and in order, and return how many once all are confirmed.

    ``messages`` is any iterable, including a generator; it is consumed in this thread, in constant memory.
    An item may be a `Message` with its own destination. The options are those of publish(), but
    ``timeout`` is the longest time without progress. If some messages are not confirmed, the others
    still are, and BulkPublishError says which failed and why. If the connection fails, the rest of the
    iterable is not read; the error's ``stopped_at`` says where publishing stopped. Nothing is stored here,
    whatever ON_FAILURE says.
    """
    refuse_in_event_loop("publish_many", "apublish_many")
    refuse_one_message(messages, options)
    alias, timeout = target(options)
    result = brokers[alias].send_many(items(messages, queue, exchange, options), timeout, announce_chunk)
    return conclude_bulk(result, alias)


@spelled_out
async def apublish_many(
    messages: Iterable[Any] | AsyncIterable[Any],
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    **options: Unpack[PublishOptions],
) -> int:
    """See publish_many(); ``messages`` may also be an asynchronous iterable."""
    refuse_foreign_loop("apublish_many", "publish_many")
    refuse_one_message(messages, options)
    alias, timeout = target(options)
    result = await brokers[alias].asend_many(
        aitems(messages, queue, exchange, options), timeout, aannounce_chunk
    )
    return conclude_bulk(result, alias)


def refuse_in_event_loop(name: str, twin: str) -> None:
    """Refuse what would block an event loop, as django.utils.asyncio.async_unsafe() does."""
    if loop_thread.is_current():
        raise SynchronousOnlyOperation(
            f"{name}() on the loop thread of the broker would wait for itself. Await {twin}()."
        )
    if "trio" in sys.modules and (library := foreign_loop()) is not None:
        raise SynchronousOnlyOperation(
            f"You cannot call {name}() in a task of {library}: it would block the event loop. Call it in a "
            f"thread, as {library}.to_thread.run_sync() does."
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        raise SynchronousOnlyOperation(
            f"You cannot call {name}() from an async context: it would block the event loop. Await "
            f"{twin}(), or use sync_to_async."
        )


def refuse_foreign_loop(name: str, twin: str) -> None:
    if (library := foreign_loop()) is not None:
        raise RuntimeError(
            f"{name}() needs an event loop of asyncio, and this one is of {library}. Call {twin}() in a "
            f"thread, as {library}.to_thread.run_sync() does. Nothing was sent."
        )
