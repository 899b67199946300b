"""What an error says about the message that was handled: why it failed, and where, without its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from faststream_django.exceptions import MessageHasNoId
from faststream_django.worker.discreet_logger import InvalidBody, without_values
from faststream_django.worker.headers import FAILED, INVALID, REJECTED, UNDECODABLE, UNHANDLED
from faststream_django.worker.tracebacks import codes, is_of, place

if TYPE_CHECKING:
    from faststream.message import StreamMessage as AnyMessage

__all__ = ["BodyTooLarge", "describe", "reason_of"]

MOST_CHARACTERS = 500
"""Of a description in a header."""


class BodyTooLarge(Exception):
    """The body has more bytes than MAX_MESSAGE_BYTES allows; it was not handled."""


def reason_of(error: BaseException, message: AnyMessage[Any] | None) -> str:
    """Return the reason for a dead letter; the message is None if no handler was found for it.

    What the tracebacks tell apart: the same errors are raised by FastStream for the body of the message, and
    by handlers for what they read elsewhere.
    """
    from faststream._internal.endpoint.subscriber.call_item import HandlerItem
    from faststream.exceptions import RejectMessage, SubscriberNotFound
    from faststream.message import StreamMessage

    if isinstance(error, RejectMessage):
        return REJECTED
    if isinstance(error, BodyTooLarge | MessageHasNoId):
        return INVALID
    if message is None and isinstance(error, SubscriberNotFound):
        return UNHANDLED
    came_through = codes(error)
    if StreamMessage.decode.__code__ in came_through or HandlerItem.is_suitable.__code__ in came_through:
        return UNDECODABLE
    return INVALID if _is_about_arguments(error) else FAILED


def describe(error: BaseException, handler: Callable[..., Any] | None) -> str:
    """Return the type of the error and where it was raised; of one about the body, what is wrong with it."""
    told = without_values(error)
    if isinstance(told, InvalidBody | BodyTooLarge | MessageHasNoId):
        return f"{type(error).__name__}: {told}"[:MOST_CHARACTERS]
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    where = place(error, str(getattr(handler, "__module__", "")).partition(".")[0])
    return (f"{name} at {where}" if where else name)[:MOST_CHARACTERS]


def _is_about_arguments(error: BaseException) -> bool:
    from fast_depends.exceptions import ValidationError as WrongArguments
    from pydantic_core import ValidationError

    if isinstance(error, WrongArguments):
        return True
    if isinstance(error, ValidationError):
        return is_of(error, "fast_depends", below=("pydantic", "pydantic_core"))
    return isinstance(error, ValueError) and is_of(error, "faststream._internal.di.config")
