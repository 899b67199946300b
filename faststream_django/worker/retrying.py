"""When a message that failed is handled again: the policy of a handler, and the steps of its waits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from faststream_django.conf.worker import LONGEST_BACKOFF
from faststream_django.worker.options import RetryPolicy, change_options, handler_options

if TYPE_CHECKING:
    from faststream_django.conf.worker import WorkerSettings

__all__ = ["VARIANTS", "RetryPlan", "delay", "delays", "plan_of", "retry"]

Handler = TypeVar("Handler", bound=Callable[..., Any])

MOST_ATTEMPTS = 1000

VARIANTS = (0.85, 1.0, 1.15)
"""What a wait is multiplied by, at random.

Each length of a wait is a queue of its own, so there are a few fixed ones instead of any number: three for
each step, which makes 12 queues of the default policy. That is enough for what jitter is for. Messages come
back in the order and at the distances in which they failed, and a consumer takes no more than its prefetch,
so there is no herd to scatter; but two messages that failed over each other, as in a deadlock, would meet
again and again.
"""


def retry(
    attempts: int | None = None,
    *,
    backoff: tuple[float, float] | None = None,
    on: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Callable[[Handler], Handler]:
    """Say when a message is handled again after its handler failed, other than the settings do.

    ``attempts``: how often it is handled in all, after which it is a dead letter; 0 and 1: never again.
    ``backoff``: the first and the longest wait in seconds; it doubles in between, and varies by 15 %.
    ``on``: the exceptions that are worth another attempt; any other makes it a dead letter at once.
    What is left out is as ``WORKER`` in the settings says. Works above and below ``@subscriber``, on
    ``def`` and ``async def``.
    """
    policy = RetryPolicy(attempts=_attempts(attempts), backoff=_backoff(backoff), on=_exceptions(on))

    def note(handler: Handler) -> Handler:
        if not callable(handler):
            raise TypeError(f"@retry() decorates a handler, and {handler!r} is not callable")
        change_options(handler, retry=policy)
        return handler

    return note


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """A policy with nothing left to the settings."""

    attempts: int
    backoff: tuple[float, float]
    on: tuple[type[Exception], ...] = (Exception,)


def plan_of(handler: Callable[..., Any] | None, settings: WorkerSettings) -> RetryPlan:
    """Return how messages of a handler are retried, or of no handler in particular."""
    own = (handler_options(handler).retry if handler is not None else None) or RetryPolicy()
    return RetryPlan(
        settings.attempts if own.attempts is None else own.attempts,
        settings.backoff if own.backoff is None else own.backoff,
        own.on,
    )


def delay(backoff: tuple[float, float], attempt: int, *, vary: bool = True) -> int:
    """Return the milliseconds to wait after this attempt, the first being 1."""
    return _milliseconds(_step(backoff, attempt), random.choice(VARIANTS) if vary else 1.0)  # noqa: S311


def delays(backoff: tuple[float, float], attempts: int, *, vary: bool = True) -> list[int]:
    """Return every wait that delay() may return between so many attempts, in milliseconds."""
    steps = {_step(backoff, attempt) for attempt in range(1, attempts)}
    return sorted({_milliseconds(step, each) for step in steps for each in (VARIANTS if vary else (1.0,))})


def _step(backoff: tuple[float, float], attempt: int) -> float:
    first, longest = backoff
    return min(first * 2.0 ** min(attempt - 1, 64), longest)


def _milliseconds(step: float, variant: float) -> int:
    return max(1, round(step * variant * 1000))


def _attempts(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            "@retry() takes the number of attempts, as in @retry(5); write the parentheses, and pass "
            f"everything else by name. This is {_shown(value)}"
        )
    if not 0 <= value <= MOST_ATTEMPTS:
        raise ValueError(f"@retry(): attempts must be 0 to {MOST_ATTEMPTS}, not {value}")
    return max(value, 1)


def _backoff(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(_is_number, value)):
        raise TypeError(
            "@retry(): backoff must be the first wait and the longest one in seconds, as in "
            f"backoff=(1, 300). This is {_shown(value)}"
        )
    first, longest = map(float, value)
    if not 0 < first <= longest <= LONGEST_BACKOFF:  # NaN is not, either
        raise ValueError(
            f"@retry(): backoff={value!r} must be the first wait, above 0, and the longest one, at most "
            f"{LONGEST_BACKOFF:_.0f} seconds"
        )
    return first, longest


def _exceptions(value: Any) -> tuple[type[Exception], ...]:
    kinds = tuple(value) if isinstance(value, (tuple, list, set, frozenset)) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(
                f"@retry(): on must be subclasses of Exception, as in on=(OperationalError,). "
                f"{_shown(kind)} is none"
            )
    if not kinds:
        raise ValueError("@retry(): on=() would never try again; write @retry(0) for that")
    return kinds


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _shown(value: Any) -> str:
    return value.__qualname__ if isinstance(value, type) else repr(value)
