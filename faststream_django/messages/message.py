"""Message: encode once, validate once, in the caller's thread.

The result can be sent unchanged. Anything that could affect other messages, such as a value that makes
RabbitMQ close the channel, is refused before it reaches the loop or a socket.
Works without configured Django settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.headers import as_headers
from faststream_django.messages.payload import encode_payload, encode_with_codec
from faststream_django.messages.properties import (
    as_destination,
    as_expiration,
    as_flag,
    as_identifier,
    as_priority,
    as_property,
    as_reply_to,
    as_timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta
    from uuid import UUID

    from faststream._internal.parser import CodecProto
    from faststream.rabbit import RabbitExchange, RabbitQueue

__all__ = ["Message"]

APP_ID = "faststream_django"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message:
    """An encoded body and where it goes; make one with `Message.encode()`.

    ``expiration`` is in seconds, ``timestamp`` an aware datetime in UTC. A message can be pickled.
    Its repr shows neither the body nor the headers, which may hold personal data.
    """

    body: bytes
    exchange: str = ""
    routing_key: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    content_type: str | None = None
    content_encoding: str | None = None
    message_id: str
    correlation_id: str
    reply_to: str | None = None
    expiration: float | None = None
    priority: int | None = None
    timestamp: datetime
    message_type: str | None = None
    persist: bool = True
    mandatory: bool = True
    app_id: str = APP_ID

    @classmethod
    def encode(
        cls,
        message: Any,
        queue: str | RabbitQueue = "",
        exchange: str | RabbitExchange | None = None,
        *,
        routing_key: str = "",
        headers: Mapping[str, Any] | None = None,
        correlation_id: str | UUID | None = None,
        message_id: str | UUID | None = None,
        reply_to: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        expiration: float | timedelta | datetime | None = None,
        priority: int | None = None,
        timestamp: float | datetime | None = None,
        message_type: str | None = None,
        persist: bool | None = None,
        mandatory: bool | None = None,
        app_id: str | None = None,
        broker: str = "default",
        max_bytes: int = 1_048_576,
        codec: CodecProto | None = None,
        id_generator: Callable[[], str] | None = None,
    ) -> Message:
        """Encode and validate a message, or raise InvalidMessage.

        The payload and the headers are copied: changing them later does not change the message.
        ``routing_key`` overrides ``queue``, and ``content_type`` the type implied by the payload.
        The message id defaults to a new UUID, and the correlation id to the result of ``id_generator``
        or else the message id; ``persist`` and ``mandatory`` default to True, and ``app_id`` to
        "faststream_django".

        ``expiration`` is in seconds, a timedelta, or an aware datetime in the future. ``timestamp`` is
        a datetime (a naive one is in local time) or seconds since the epoch; it is sent in whole
        seconds, as are datetimes in the headers. ``max_bytes`` limits the body.

        Errors say what is wrong, where, and how to fix it, and never quote the payload. Exceptions that a
        query set or an iterator raises while it is read reach the caller unchanged.
        """
        known_id: str | None = None
        try:
            known_id = as_identifier("message_id", message_id) or str(uuid4())
            exchange_name, key = as_destination(queue, exchange, routing_key)
            body, derived_type = _body(cls, message, codec, max_bytes)
            return cls(
                body=body,
                exchange=exchange_name,
                routing_key=key,
                headers={} if headers is None else as_headers(headers),
                content_type=as_property("content_type", content_type or derived_type),
                content_encoding=as_property("content_encoding", content_encoding),
                message_id=known_id,
                correlation_id=as_identifier("correlation_id", correlation_id)
                or as_identifier("id_generator()", id_generator and id_generator())
                or known_id,
                reply_to=as_reply_to(reply_to),
                expiration=as_expiration(expiration),
                priority=as_priority(priority),
                timestamp=as_timestamp(timestamp),
                message_type=as_property("message_type", message_type),
                persist=as_flag("persist", persist),
                mandatory=as_flag("mandatory", mandatory),
                app_id=APP_ID if app_id is None else as_property("app_id", app_id) or APP_ID,
            )
        except InvalidMessage as error:
            if error.broker is None:  # else it is about another message, published by an iterator
                error.broker, error.message_id = broker, known_id
                subject = f"Message {known_id}" if known_id else "The message"
                error.args = (f"{subject} for broker {broker!r} was refused: {error}.",)
            raise

    @property
    def destination(self) -> str:
        """The destination in words, for logs and errors."""
        if not self.exchange:
            return f"queue {self.routing_key!r}"
        return f"exchange {self.exchange!r} with routing key {self.routing_key!r}"

    def decode(self) -> Any:
        """Return the body as a FastStream subscriber without annotations would receive it."""
        from faststream.message import decode_message  # 0.25 s, at first use only

        return decode_message(self)  # type: ignore[arg-type]  # it reads body and content_type

    def __setstate__(self, state: list[Any]) -> None:
        # The pickle of an earlier version ends before the fields that came later: new ones go to the end.
        for number, each in enumerate(fields(self)):
            object.__setattr__(self, each.name, state[number] if number < len(state) else each.default)

    def __repr__(self) -> str:
        kind = self.content_type or "no content type"
        return f"<Message {self.message_id!r} to {self.destination}: {len(self.body)} bytes, {kind}>"


def _body(
    cls: type[Message], message: Any, codec: CodecProto | None, max_bytes: int
) -> tuple[bytes, str | None]:
    if type(message) is cls:
        raise InvalidMessage(
            "the payload is a Message already, and encoding it again would wrap it; "
            "pass what it was made from, or message.decode()"
        )
    body, content_type = encode_payload(message) if codec is None else encode_with_codec(codec, message)
    if len(body) > max_bytes:
        raise InvalidMessage(
            f"the body has {len(body):,} bytes, and MAX_MESSAGE_BYTES allows {max_bytes:,}; store "
            "the data elsewhere and send a reference to it, or raise MAX_MESSAGE_BYTES"
        )
    return body, content_type
