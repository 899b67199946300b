"""A logger for FastStream's words about handlers, which never quotes the body of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["DiscreetLogger"]


class InvalidBody(Exception):
    """Stands in a log for an error of validation, whose own text quotes what was validated."""


class DiscreetLogger:
    """Logs as the logger does that it is made of, but errors of validation without their values."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def log(
        self, level: int, msg: Any, /, *, exc_info: Any = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        if isinstance(exc_info, BaseException):
            told = _without_values(exc_info)
            if told is not exc_info:
                msg, exc_info = f"{type(exc_info).__name__}: {told}", told
        self._logger.log(level, msg, exc_info=exc_info, extra=extra)


def _without_values(error: BaseException) -> BaseException:
    """Return the error, or what stands for it; those that it came from are replaced in place."""
    cause, context = error.__cause__, error.__context__
    if _is_about_values(error):
        told: BaseException = InvalidBody(_summary(error)).with_traceback(error.__traceback__)
        told.__suppress_context__ = True
        return told
    suppressed = error.__suppress_context__
    if cause is not None:
        error.__cause__ = _without_values(cause)
    if context is not None:
        error.__context__ = error.__cause__ if context is cause else _without_values(context)
    error.__suppress_context__ = suppressed
    return error


def _is_about_values(error: BaseException) -> bool:
    from fast_depends.exceptions import ValidationError as WrongArguments
    from pydantic_core import ValidationError

    return isinstance(error, ValidationError | WrongArguments)


def _summary(error: Any) -> str:
    """Say where values are wrong and why; a validator's own text is left out, as it may quote them."""
    problems = getattr(error, "errors", None)
    if problems is None:
        return "the message does not fit the arguments of the handler"
    lines = [
        f"{'.'.join(map(str, each['loc']))}: "
        + (each["type"] if each["type"] in {"value_error", "assertion_error"} else each["msg"])
        for each in problems(include_url=False, include_input=False, include_context=False)
    ]
    return f"{len(lines)} of the values do not fit {error.title} ({'; '.join(lines)})"
