"""Tells the receivers of the signals and the log what came of a message, in the thread of the caller."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal

from faststream_django.connection.bulk import Chunk
from faststream_django.exceptions import PublishError
from faststream_django.messages.message import Message
from faststream_django.signals import message_failed, message_published

__all__ = [
    "aannounce",
    "aannounce_chunk",
    "announce",
    "announce_chunk",
]

logger = logging.getLogger("faststream_django.publish")


def announce(message: Message, broker: str, error: PublishError | None = None) -> None:
    """Send message_published, or message_failed with the error."""
    signal, arguments = _announcement(message, broker, error)
    if signal.has_listeners(Message):
        signal.send_robust(Message, **arguments)


async def aannounce(message: Message, broker: str, error: PublishError | None = None) -> None:
    """See announce()."""
    signal, arguments = _announcement(message, broker, error)
    if signal.has_listeners(Message):
        await signal.asend_robust(Message, **arguments)


def announce_chunk(chunk: Chunk) -> None:
    """Announce what came of each message of a chunk; go on where Ctrl-C interrupted it."""
    for publication in chunk.publications[chunk.announced :]:
        chunk.announced += 1
        announce(publication.message, publication.broker, chunk.errors.get(publication.index))


async def aannounce_chunk(chunk: Chunk) -> None:
    """See announce_chunk()."""
    for publication in chunk.publications:
        await aannounce(publication.message, publication.broker, chunk.errors.get(publication.index))


def _announcement(message: Message, broker: str, error: PublishError | None) -> tuple[Signal, dict[str, Any]]:
    arguments: dict[str, Any] = {"message": message, "broker": broker}
    if error is not None:
        return message_failed, {**arguments, "error": error}
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "broker=%s message_id=%r exchange=%r routing_key=%r bytes=%d state=confirmed",
            broker,
            message.message_id,
            message.exchange,
            message.routing_key,
            len(message.body),
        )
    return message_published, arguments
