"""Replies to those who wait for one: what a handler returned, or that it failed.

A reply that is lost costs the requester its deadline. It never costs the work that was done for it, so
nothing is raised here.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from faststream_django.exceptions import InvalidMessage, MessageUnroutable, PublishError
from faststream_django.messages.message import Message
from faststream_django.messages.reply import ERROR_HEADER
from faststream_django.publishing.announcements import aannounce
from faststream_django.registry import brokers

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

__all__ = ["announce_published", "error_reply", "send_reply", "tell_failure"]

logger = logging.getLogger("faststream_django.worker")

EXCHANGE_DELIMITER = "|"
"""What FastStream puts between queue and exchange in a `reply_to`."""

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to."
"""Where requests without a queue for replies are answered. It is no queue: RabbitMQ delivers a mandatory
message, and returns it as unroutable all the same (https://www.rabbitmq.com/docs/direct-reply-to)."""


async def error_reply(
    alias: str, message: AbstractIncomingMessage, error: BaseException, *, queue: str = ""
) -> bool:
    """Tell the sender of a request that its handler failed; return whether the broker has the reply.

    The reply has no body, and the name of the error's class in the header ``faststream-error``: neither its
    text nor a traceback, which may hold what is not for the requester. request() raises RequestFailed for it.
    `queue` is where the message came from, for the log. A message that is no request is left alone. A
    subscriber with ``no_reply=True`` answers nothing.
    """
    if not message.reply_to:
        return False
    return await tell_failure(
        alias,
        message.reply_to,
        error,
        correlation_id=message.correlation_id or message.message_id,
        queue=queue,
    )


async def tell_failure(
    alias: str, reply_to: str, error: BaseException, *, correlation_id: str | None, queue: str
) -> bool:
    """See error_reply()."""
    routing_key, _, exchange = reply_to.partition(EXCHANGE_DELIMITER)
    try:
        reply = Message.encode(
            b"",
            exchange=exchange,
            routing_key=routing_key,
            headers={ERROR_HEADER: type(error).__name__},
            correlation_id=correlation_id,
            broker=alias,
        )
    except InvalidMessage as invalid:  # whoever asked wrote a reply_to that nothing can be sent to
        _log_loss(alias, queue, correlation_id, str(invalid))
        return False
    return await send_reply(alias, reply, queue=queue)


async def send_reply(alias: str, reply: Message, *, queue: str, timeout: float | None = None) -> bool:
    """Send a reply; return whether the broker has confirmed it, and log it if it is lost."""
    if reply.routing_key.startswith(DIRECT_REPLY_TO):
        reply = replace(reply, mandatory=False)
    try:
        await brokers[alias].asend(reply, timeout, processed=True)
    except MessageUnroutable:
        _log_loss(alias, queue, reply.correlation_id, "nobody waits for it any more")
    except PublishError as error:
        _log_loss(alias, queue, reply.correlation_id, str(error))
    else:
        await announce_published(reply, alias)
        return True
    return False


async def announce_published(message: Message, alias: str) -> None:
    """Send message_published; what hinders that is logged, as the message is where it should be."""
    try:
        await aannounce(message, alias)
    except Exception:  # no thread for a receiver that is a plain function: the process is ending
        logger.exception("broker=%s message_id=%s state=not-announced", alias, message.message_id)


def _log_loss(alias: str, queue: str, correlation_id: str | None, reason: str) -> None:
    logger.warning(
        "broker=%s queue=%r correlation_id=%r state=reply-lost reason=%r",
        alias,
        queue,
        correlation_id,
        reason,
    )
