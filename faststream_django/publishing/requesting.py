"""The verb that waits for a reply."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack, cast
from uuid import uuid4

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import PublishError, RequestFailed
from faststream_django.messages.message import Message
from faststream_django.messages.properties import MAX_EXPIRATION
from faststream_django.publishing.announcements import aannounce, announce
from faststream_django.publishing.outgoing import (
    Outgoing,
    PublishOptions,
    RequestOptions,
    encode,
    refuse_unknown,
    requests_spelled_out,
    target,
)
from faststream_django.publishing.verbs import refuse_foreign_loop, refuse_in_event_loop
from faststream_django.registry import brokers

if TYPE_CHECKING:
    from faststream.rabbit import RabbitExchange, RabbitQueue

__all__ = ["arequest", "request"]

# What request() decides itself, and where else a caller can put it.
OURS = {
    "correlation_id": "A reply is known by it, so request() gives each request one of its own. Put yours "
    "into headers=.",
    "reply_to": "request() waits for the reply itself. Use publish(..., reply_to=...) for one that goes to a "
    "queue.",
    "mandatory": "A request that reaches no queue has no reply, and fails at once.",
}


@requests_spelled_out
def request(
    message: Any,
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    **options: Unpack[RequestOptions],
) -> Any:
    """Send a message to a FastStream subscriber, wait for what it returns, and return that, decoded.

    Any number of requests may be under way at a time, in all threads and tasks. Each has its own deadline:
    without a reply within ``timeout`` seconds RequestTimeout is raised, whose ``maybe_sent`` says whether the
    request may have been, or may yet be, handled. Raises RequestFailed if the handler failed,
    MessageUnroutable at once if no queue takes the request, ConnectionLost at once if the connection breaks
    meanwhile, else what publish() raises. Nothing is stored or sent again, whatever ON_FAILURE says.

    In a running event loop it raises SynchronousOnlyOperation, and you await arequest() instead.

    The options are those of publish(), but for ``correlation_id``, ``reply_to`` and ``mandatory``, which are
    request()'s own. A request is transient, and expires in its queue when its time is over, unless
    ``persist`` and ``expiration`` say otherwise.
    """
    refuse_in_event_loop("request", "arequest")
    outgoing = _encode(message, queue, exchange, options)
    try:
        reply = brokers[outgoing.broker].request(outgoing.message, outgoing.timeout)
    except PublishError as error:
        announce(outgoing.message, outgoing.broker, _as_announced(error))
        raise
    announce(outgoing.message, outgoing.broker)
    return reply.read(outgoing.message, outgoing.broker)


@requests_spelled_out
async def arequest(
    message: Any,
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    **options: Unpack[RequestOptions],
) -> Any:
    """See request()."""
    refuse_foreign_loop("arequest", "request")
    outgoing = _encode(message, queue, exchange, options)
    try:
        reply = await brokers[outgoing.broker].arequest(outgoing.message, outgoing.timeout)
    except PublishError as error:
        await aannounce(outgoing.message, outgoing.broker, _as_announced(error))
        raise
    await aannounce(outgoing.message, outgoing.broker)
    return reply.read(outgoing.message, outgoing.broker)


def _encode(
    message: Any,
    queue: str | RabbitQueue,
    exchange: str | RabbitExchange | None,
    options: RequestOptions,
) -> Outgoing:
    for name in options:
        if name in OURS:
            raise TypeError(f"request() takes no {name}=. {OURS[name]}")
    refuse_unknown(options, RequestOptions)
    given = cast("PublishOptions", options)
    alias, timeout = target(given)
    if timeout is None:
        timeout = broker_settings(alias).timeout
    correlation_id = str(uuid4())
    expiration = min(timeout, MAX_EXPIRATION)  # nobody waits for what a handler would do later
    if isinstance(message, Message):
        ready = encode(message, queue, exchange, given).message
        if ready.expiration is not None:
            expiration = ready.expiration
        ready = replace(ready, correlation_id=correlation_id, mandatory=True, expiration=expiration)
        return Outgoing(ready, alias, timeout)
    given = {**given, "correlation_id": correlation_id, "mandatory": True}
    if given.get("expiration") is None:
        given["expiration"] = expiration
    if given.get("persist") is None:
        given["persist"] = False  # its reply cannot outlive the broker either
    return Outgoing(encode(message, queue, exchange, given).message, alias, timeout)


def _as_announced(error: PublishError) -> PublishError | None:
    """Return what the receivers of the signals are told: a handler that failed had the message."""
    return None if isinstance(error, RequestFailed) else error
