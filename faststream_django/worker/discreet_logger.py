"""A logger for FastStream's words about handlers, which never quotes the body of a message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from faststream_django.worker.tracebacks import codes, is_of

__all__ = ["DiscreetLogger", "InvalidBody", "note_told", "without_values"]

_told: ContextVar[BaseException | None] = ContextVar("faststream_django_told", default=None)


class InvalidBody(Exception):
    """Stands in a log for an error about the body of a message, whose own text or parts quote it."""


class DiscreetLogger:
    """Logs as the logger does that it is made of, but errors about the body without its values.

    What was told already is not told again: FastStream's own line comes after that of the worker.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def log(
        self, level: int, msg: Any, /, *, exc_info: Any = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        if isinstance(exc_info, BaseException):
            if exc_info is _told.get():
                return
            told = without_values(exc_info)
            if told is not exc_info:
                msg, exc_info = f"{type(exc_info).__name__}: {told}", told
        self._logger.log(level, msg, exc_info=exc_info, extra=extra)


def note_told(error: BaseException) -> None:
    """Note that the log has this error already, in the task that handles its message."""
    _told.set(error)


def without_values(error: BaseException) -> BaseException:
    """Return the error, or what stands for it; those that it came from are replaced in place."""
    cause, context = error.__cause__, error.__context__
    summary = _summary(error)
    if summary is not None:
        told: BaseException = InvalidBody(summary).with_traceback(error.__traceback__)
        told.__suppress_context__ = True
        return told
    suppressed = error.__suppress_context__
    if cause is not None:
        error.__cause__ = without_values(cause)
    if context is not None:
        error.__context__ = error.__cause__ if context is cause else without_values(context)
    error.__suppress_context__ = suppressed
    return error


def _summary(error: BaseException) -> str | None:
    """Say what is wrong with the body, if that is what the error is about; else return None."""
    from fast_depends.exceptions import ValidationError as WrongArguments
    from faststream.exceptions import SubscriberNotFound
    from faststream.message import StreamMessage
    from pydantic_core import ValidationError

    if isinstance(error, ValidationError):
        return _problems(error)
    if isinstance(error, WrongArguments):
        return "the message does not fit the arguments of the handler"
    if isinstance(error, SubscriberNotFound):
        return "no handler of the queue takes the message: the filters of all refuse it"
    if isinstance(
        error, json.JSONDecodeError | UnicodeDecodeError
    ) and StreamMessage.decode.__code__ in codes(error):
        return f"the body is not what its content type says ({_where(error)})"
    if isinstance(error, ValueError) and is_of(error, "faststream._internal.di.config"):
        return "the body is neither an object nor an array, and the handler has several arguments"
    return None


def _where(error: json.JSONDecodeError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"{error.encoding}: {error.reason} at byte {error.start}"
    return f"JSON: {error.msg} at character {error.pos}"


def _problems(error: Any) -> str:
    """Say where values are wrong and why; a validator's own text is left out, as it may quote them."""
    lines = [
        f"{'.'.join(map(str, each['loc']))}: "
        + (each["type"] if each["type"] in {"value_error", "assertion_error"} else each["msg"])
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return f"{len(lines)} of the values do not fit {error.title} ({'; '.join(lines)})"
