"""What makes two messages the same for a consumer, as 16 bytes."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID

from faststream_django.exceptions import MessageHasNoId

if TYPE_CHECKING:
    from faststream.rabbit import RabbitMessage

__all__ = ["Key", "digest", "key_of"]

Key = Callable[["RabbitMessage"], Any]
"""Takes what identifies a message out of it."""


def key_of(message: RabbitMessage, key: Key | str | None) -> bytes:
    """Return what identifies the message: its id, or what `key` finds; raise MessageHasNoId without one."""
    found: Any
    if key is None:
        # FastStream's own message has an id that it makes up where the publisher gave none.
        found, place = message.raw_message.message_id, "no message id"
    elif isinstance(key, str):
        found, place = message.headers.get(key), f"no header {key!r}"
    else:
        found, place = key(message), "nothing that the key= of @idempotent finds"
    if found is None or found in ("", b""):
        raise MessageHasNoId(
            f"A message has {place}, so nobody can tell whether it was handled before. Have its publisher "
            "give it a message_id, as publish() does, or name another key with @idempotent(key=...)."
        )
    if isinstance(found, bytes):
        return found
    if isinstance(found, str | UUID) or (isinstance(found, int) and not isinstance(found, bool)):
        return str(found).encode()
    raise MessageHasNoId(
        f"The key= of @idempotent found a {type(found).__name__}: it must be a str, bytes, an int or a UUID."
    )


def digest(consumer: str, key: bytes) -> bytes:
    """Return 16 bytes for a message and its consumer: half of the room that the texts would take."""
    name = consumer.encode()
    # With the length of the name, or a part of one key could be a part of another one's name.
    return blake2b(len(name).to_bytes(4) + name + key, digest_size=16).digest()
