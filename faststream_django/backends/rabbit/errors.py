"""What aiormq and the operating system raise, translated once into our own errors."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Mapping
from typing import Any

from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelClosed,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
    DeliveryError,
    ProbableAuthenticationError,
    ProtocolSyntaxError,
)
from aiormq.exceptions import PublishError as Returned

from faststream_django.backends.base import NotSent, Publication, Request
from faststream_django.exceptions import (
    BrokerRefused,
    BrokerUnavailable,
    ConnectionLost,
    InvalidMessage,
    MessageRejected,
    MessageUnroutable,
    PublishError,
)
from faststream_django.messages.message import Message

__all__ = [
    "connect_error",
    "connection_lost",
    "drop_frames",
    "explained",
    "publish_error",
    "rejected",
    "unroutable",
    "unwritable",
    "why_closed",
]


def connect_error(error: Exception) -> BrokerUnavailable:  # noqa: PLR0911 - a table
    """Translate a failed attempt to connect; the text never holds the URL."""
    if isinstance(error, BrokerUnavailable):
        return error
    cause = error.__cause__
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return BrokerRefused(f"the broker refused the credentials: {words(error)}")
    if isinstance(error, ConnectionNotAllowed):
        return BrokerRefused(f"the broker refused the connection: {words(error)}")
    if isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError):
        return BrokerRefused(f"TLS failed: {words(error)}")
    if isinstance(error, FileNotFoundError | PermissionError):
        return BrokerRefused(f"a TLS file cannot be read: {words(error)}")
    if isinstance(error, ProtocolSyntaxError):
        return BrokerUnavailable(f"the peer does not speak AMQP 0-9-1 ({type(error).__name__})")
    if isinstance(error, OSError | AMQPError | asyncio.IncompleteReadError):
        return BrokerUnavailable(words(error) or type(error).__name__)
    if isinstance(error, NotSent):
        return BrokerUnavailable(f"the connection was lost at once: {words(error)}")
    return BrokerUnavailable(f"{type(error).__name__}: {words(error)}")


def words(error: Exception) -> str:
    """Return what the error says, for the middle of a sentence: RabbitMQ ends some texts with a dot."""
    return str(error).rstrip(".")


def drop_frames(error: BaseException) -> None:
    """Drop the frames of an error of the driver: they hold the URL in local variables, which pages show."""
    each: BaseException | None = error
    while each is not None and each.__traceback__ is not None:  # a chain may be a circle
        each.__traceback__ = None
        each = each.__cause__ or each.__context__


def publish_error(error: BaseException, publication: Publication, *, newest: bool) -> PublishError | NotSent:
    """Translate what ended a publish, or its channel, into the verdict on one message.

    `newest` tells that no other message was written to the channel after this one. The broker takes the
    messages of a channel in turn, and none after the one it closes the channel for: the newest was
    certainly not routed. An earlier one may be in its queue and only wait for its confirm.
    """
    message = publication.sent_as
    if isinstance(error, ChannelInvalidStateError):
        # aiormq checks the state before it writes: https://github.com/mosquito/aiormq (Channel.lock)
        publication.maybe_sent = False
        return NotSent(str(error))
    if isinstance(error, Returned):
        return unroutable(publication)
    if isinstance(error, DeliveryError):
        return rejected(publication)
    if isinstance(error, ChannelClosed) and newest and _is_about(error, message):
        verdict = _channel_verdict(error, publication)
        if verdict is not None:
            return verdict
    if isinstance(error, TypeError | ValueError | AttributeError | OverflowError | struct.error):
        publication.maybe_sent = False
        return unwritable(publication, error)
    return connection_lost(publication, _reason(error))


def unroutable(publication: Publication) -> MessageUnroutable:
    """basic.return."""
    message = publication.sent_as
    advice = "or pass mandatory=False"
    if isinstance(publication, Request):
        advice = "or start the worker whose subscriber declares it"
    return MessageUnroutable(
        f"message {message.message_id} was returned: no queue is bound to exchange {message.exchange!r} "
        f"for routing key {message.routing_key!r}. Declare the queue (FASTSTREAM QUEUES) {advice}.",
        **_about(publication),
    )


def rejected(publication: Publication) -> MessageRejected:
    """basic.nack: one queue refused the message; others may have taken it, where others may be bound."""
    message = publication.sent_as
    maybe_sent = bool(message.exchange) or not {"CC", "BCC"}.isdisjoint(message.headers)
    advice = (
        "Other queues that are bound there may have it; publish it again with the same message_id only if "
        "consumers ignore duplicates."
        if maybe_sent
        else "It is safe to publish it again later."
    )
    return MessageRejected(
        f"message {message.message_id} was refused by the broker (basic.nack): a queue is full or its leader "
        f"is gone. {advice}",
        maybe_sent=maybe_sent,
        **_about(publication),
    )


def connection_lost(publication: Publication, reason: str) -> ConnectionLost:
    """No verdict will come for a message that was written."""
    if isinstance(publication, Request):
        return ConnectionLost(
            f"request {publication.sent_as.message_id}: the connection broke before its reply came "
            f"({reason}). It may have been handled; send it again only if that does no harm.",
            **_about(publication),
        )
    return ConnectionLost(
        f"message {publication.sent_as.message_id}: the connection broke before the broker confirmed it "
        f"({reason}). The broker may have it; publish it again with the same message_id only if consumers "
        "ignore duplicates.",
        **_about(publication),
    )


def unwritable(publication: Publication, error: BaseException) -> InvalidMessage:
    """A message that was made by hand, and has no frames."""
    return InvalidMessage(
        f"message {publication.sent_as.message_id} cannot be written as AMQP: {error}", **_about(publication)
    )


def explained(
    verdict: MessageUnroutable, message: Message, topology_errors: Mapping[str, str]
) -> MessageUnroutable:
    """Add why the configured queue or exchange is not there, if its declaration had failed."""
    name = message.exchange or message.routing_key
    reason = topology_errors.get(name)
    if reason is None:
        return verdict
    return MessageUnroutable(
        f"{verdict} Declaring {name!r} had failed: {reason}",
        message_id=verdict.message_id,
        broker=verdict.broker,
    )


def _channel_verdict(error: ChannelClosed, publication: Publication) -> PublishError | None:
    name, about = f"message {publication.sent_as.message_id}", _about(publication)
    if isinstance(error, ChannelNotFoundEntity):
        return MessageUnroutable(f"{name} was not routed: {words(error)}.", **about)
    if isinstance(error, ChannelAccessRefused):
        return MessageRejected(
            f"{name} was refused: {words(error)}. Grant the user write permission on the exchange.",
            **about,
        )
    if isinstance(error, ChannelPreconditionFailed):
        return MessageRejected(f"{name} was refused: {words(error)}.", **about)
    return None


def _about(publication: Publication) -> dict[str, Any]:
    return {"message_id": publication.sent_as.message_id, "broker": publication.broker}


def _is_about(error: ChannelClosed, message: Message) -> bool:
    """Tell whether the broker's text names this exchange, as in "no exchange 'x' in vhost '/'"."""
    text = str(error)
    if isinstance(error, ChannelPreconditionFailed):
        return True
    if message.exchange:
        return f"exchange '{message.exchange}'" in text
    return "exchange 'amq.default'" in text or "exchange ''" in text or "default exchange" in text


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "no frame from the broker for too long"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def why_closed(closing: asyncio.Future[Any]) -> str:
    """Say why a connection of the driver has ended, which has cancelled or settled its `closing`."""
    if closing.cancelled():
        return "no frame from the broker for too long (heartbeat)"
    error = closing.exception()
    return f"{type(error).__name__}: {error}" if error else "closed"
