"""Which publishes fail in a test, and with what."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import cast

from faststream_django.exceptions import BulkPublishError, PublishError
from faststream_django.messages.message import Message

__all__ = ["FailWith", "Failing", "Failure", "make_error"]

Failure = PublishError | type[PublishError]
FailWith = Failure | Callable[[Message], Failure | None] | Sequence[Failure | None]


class Failing:
    """What a test asks to fail; a list begins anew with each begin()."""

    def __init__(self, fail_with: FailWith | None, fail_on: str | Collection[str] | None) -> None:
        if fail_on is not None and fail_with is None:
            raise TypeError("fail_on= says where to fail; pass fail_with= too, which says with what.")
        if isinstance(fail_with, Sequence):
            for each in fail_with:
                if each is not None:
                    _check(each)
        elif fail_with is not None and (isinstance(fail_with, type) or not callable(fail_with)):
            _check(fail_with)
        self._fail_with = fail_with
        self.aliases = (fail_on,) if isinstance(fail_on, str) else fail_on

    def applies_to(self, alias: str) -> bool:
        """Tell whether a message to this broker may fail."""
        return self._fail_with is not None and (self.aliases is None or alias in self.aliases)

    def begin(self) -> Callable[[Message, str], None]:
        """Return a function that raises what a message to a broker fails with, if it fails."""
        choose = self._chooser()

        def fail(message: Message, alias: str) -> None:
            if self.applies_to(alias) and (failure := choose(message)) is not None:
                raise make_error(_check(failure), message, alias)

        return fail

    def _chooser(self) -> Callable[[Message], Failure | None]:
        fail_with = self._fail_with
        if isinstance(fail_with, Sequence):
            entries = iter(fail_with)  # next() is atomic: each entry goes to one message
            return lambda _: next(entries, None)
        if fail_with is None or isinstance(fail_with, PublishError | type):
            return lambda _: fail_with
        return fail_with


def _check(failure: object) -> Failure:
    kind = failure if isinstance(failure, type) else type(failure)
    if not issubclass(kind, PublishError) or issubclass(kind, BulkPublishError):
        raise TypeError(
            f"fail_with is {kind.__name__}; pass what a message fails with, such as BrokerUnavailable or "
            "ConnectionLost('...') of faststream_django.exceptions, a list of such with one entry for each "
            "publish (None: it succeeds), or a function that takes the message and returns one."
        )
    return cast("Failure", failure)


def make_error(failure: Failure, message: Message, alias: str) -> PublishError:
    """Make an error for one message: each caller gets an object of its own."""
    if isinstance(failure, PublishError):
        error = copy.copy(failure)
    else:
        error = failure(
            f"message {message.message_id} was not confirmed: "
            f"capture_messages(fail_with={failure.__name__}) simulates a failure."
        )
    error.message_id = error.message_id or message.message_id
    error.broker = error.broker or alias
    error.message = message
    return error
