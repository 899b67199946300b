"""What comes back for a request: a value, or the name of what its handler raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faststream_django.exceptions import RequestFailed
from faststream_django.messages.message import Message

__all__ = ["ERROR_HEADER", "Reply", "failure_of", "undecodable"]

ERROR_HEADER = "faststream-error"
"""In a reply: the name of the class of the exception that the handler raised. Such a reply has no body."""

_UNREAD = object()


@dataclass(slots=True)
class Reply:
    """A reply as it came, and its value once the middlewares and the decoder of OPTIONS have read it."""

    message: Message
    value: Any = _UNREAD

    def read(self, request: Message, broker: str) -> Any:
        """Return the value that the handler returned, or raise RequestFailed."""
        failure = failure_of(self.message, request, broker)
        if failure is not None:
            raise failure
        if self.value is not _UNREAD:
            return self.value
        try:
            return self.message.decode()
        except ValueError as error:
            raise undecodable(self.message, request, broker) from error


def failure_of(reply: Message, request: Message, broker: str) -> RequestFailed | None:
    """Return the error that a reply tells of, if the handler failed."""
    error_type = reply.headers.get(ERROR_HEADER)
    if not isinstance(error_type, str):
        return None
    return RequestFailed(
        f"request {request.message_id} to {request.destination} failed: its handler raised "
        f"{error_type[:100]!r}. The log of the worker tells more.",
        message_id=request.message_id,
        broker=broker,
        message=request,
        error_type=error_type,
    )


def undecodable(reply: Message, request: Message, broker: str) -> RequestFailed:
    """The handler has replied, with what is not of the content type that it names."""
    return RequestFailed(
        f"request {request.message_id} to {request.destination} was handled, but its reply of "
        f"{len(reply.body)} bytes cannot be decoded as {reply.content_type or 'a message'!r}. Have the "
        "handler return what FastStream encodes, or give OPTIONS the codec or decoder for it.",
        message_id=request.message_id,
        broker=broker,
        message=request,
    )
