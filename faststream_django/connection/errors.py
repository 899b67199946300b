"""What is known about a message when nobody answered: the errors that no broker and no driver raised."""

from __future__ import annotations

import copy
from typing import Any

from faststream_django.backends.base import Publication, Request
from faststream_django.connection.bulk import BulkResult
from faststream_django.exceptions import (
    BrokerBlocked,
    BrokerRefused,
    BrokerUnavailable,
    BulkPublishError,
    ConnectionLost,
    PublishError,
    PublishTimeout,
    RequestTimeout,
)
from faststream_django.loop.calls import LoopStalled, LoopStopped
from faststream_django.messages.message import Message

__all__ = [
    "broken",
    "bulk_error",
    "conclude",
    "conclude_bulk",
    "late",
    "middleware_failed",
    "not_tried",
    "of_its_own",
    "repeated",
    "stopped",
    "swallowed",
    "unanswered",
    "unavailable",
]

MAYBE = (
    "The broker may have it; publish it again with the same message_id only if consumers ignore duplicates."
)
MAYBE_HANDLED = "It may have been handled; send it again only if that does no harm."


def late(publication: Publication, outage: str | None, *, blocked: bool, reason: str = "") -> PublishError:
    """The deadline passed on the loop, which knows how far the message came.

    The `reason` is what the session knows about a message that it has not written.
    """
    name, about = _names(publication)
    timeout = publication.timeout
    if publication.is_uncertain:
        if isinstance(publication, Request):
            return _without_reply(publication)
        return PublishTimeout(
            f"{name} was sent, but the broker did not confirm it within {timeout:g} s. {MAYBE}",
            maybe_sent=True,
            **about,
        )
    if blocked:
        return BrokerBlocked(
            f"{name} was not sent within {timeout:g} s: the broker blocks publishers (memory or disk "
            "alarm). Free memory or disk space on the broker, then publish again.",
            **about,
        )
    if outage is not None:
        return BrokerUnavailable(
            f"{name} was not sent within {timeout:g} s: {outage}. It is safe to publish it again.",
            **about,
        )
    reason = reason or "a middleware, a busy channel or an unanswered message with the same id held it up"
    return _timeout_of(publication)(
        f"{name} was not sent within {timeout:g} s: {reason}. It is safe to publish it again.", **about
    )


def unavailable(publication: Publication, error: BrokerUnavailable) -> BrokerUnavailable:
    """There is no session, and waiting for one is of no use."""
    name, about = _names(publication)
    advice = " Waiting will not help." if isinstance(error, BrokerRefused) else ""
    return type(error)(f"{name} was not sent: {error}.{advice}", **about)


def stopped(publication: Publication) -> PublishError:
    """The connection is closed, and the time for what was in flight is over."""
    return unanswered(publication, LoopStopped("the connection was stopped"), connected=False)


def conclude(publication: Publication, error: LoopStalled | LoopStopped, *, connected: bool) -> None:
    """Return if the caller is known to have what it waits for although the loop is silent, else raise."""
    if not publication.is_done:
        raise unanswered(publication, error, connected=connected) from None


def unanswered(
    publication: Publication, error: LoopStalled | LoopStopped, *, connected: bool
) -> PublishError:
    """The loop itself did not answer: it is stopped, or something blocks it.

    A message that was not handed over by now never will be.
    """
    name, about = _names(publication)
    is_request = isinstance(publication, Request)
    maybe = MAYBE_HANDLED if is_request else MAYBE
    if isinstance(error, LoopStopped):
        if not publication.give_up():
            awaited = "its reply came" if is_request else "the broker confirmed it"
            return ConnectionLost(f"{name}: {error} before {awaited}. {maybe}", **about)
        return BrokerUnavailable(f"{name} was not sent: {error}.", **about)
    if not publication.give_up():
        return _timeout_of(publication)(
            f"{name}: the loop thread does not answer; a middleware blocks it. {maybe}",
            maybe_sent=True,
            **about,
        )
    if not connected:
        return BrokerUnavailable(
            f"{name} was not sent: the connection is still being prepared. It is safe to publish it "
            "again; call brokers.start() early in a script whose first publish must be quick.",
            **about,
        )
    return _timeout_of(publication)(
        f"{name} was not sent: the loop thread does not answer; a middleware blocks it. It is safe to "
        "publish it again.",
        **about,
    )


def conclude_bulk(result: BulkResult, broker: str) -> int:
    """Return how many messages were confirmed if all were, else raise BulkPublishError."""
    if result.errors:
        raise bulk_error(result, broker)
    return result.confirmed


def bulk_error(result: BulkResult, broker: str) -> BulkPublishError:
    index, first = min(result.errors.items())
    stopped = (
        ""
        if result.stopped_at is None
        else f" Publishing stopped: nothing from index {result.stopped_at} on was sent."
    )
    return BulkPublishError(
        f"{len(result.errors)} messages were not confirmed by broker {broker!r}, {result.confirmed} were. "
        f"The first, at index {index}: {first}{stopped}",
        errors=result.errors,
        confirmed=result.confirmed,
        broker=broker,
        stopped_at=result.stopped_at,
    )


def swallowed(publication: Publication) -> PublishError:
    """A middleware returned without passing the message on, or kept the error to itself."""
    name, about = _names(publication)
    if publication.is_uncertain:
        return PublishError(
            f"{name}: a publish middleware kept to itself that the broker did not confirm it. {MAYBE}",
            maybe_sent=True,
            **about,
        )
    return PublishError(
        f"{name} was not published: a publish middleware returned without passing it on.", **about
    )


def repeated(publication: Publication, error: PublishError) -> PublishError:
    """The last attempt of a middleware certainly did not reach the broker, but an earlier one may have."""
    name, about = _names(publication)
    failed = PublishError(
        f"{name}: a publish middleware tried several times. An earlier attempt may have reached the "
        f"broker; the last one did not: {error} {MAYBE}",
        maybe_sent=True,
        **about,
    )
    failed.__cause__ = error
    return failed


def broken(publication: Publication, error: Exception) -> PublishError:
    """Our own code, or that of a driver, raised what it should not."""
    name, about = _names(publication)
    advice = MAYBE if publication.is_uncertain else "It was not sent; it is safe to publish it again."
    failed = PublishError(
        f"{name}: publishing failed inside with {type(error).__name__}: {error}. {advice}",
        maybe_sent=publication.is_uncertain,
        **about,
    )
    failed.__cause__ = error
    return failed


def not_tried(message: Message, broker: str, cause: PublishError) -> BrokerUnavailable:
    """An earlier message of the same group failed in a way that makes it useless to try this one."""
    return BrokerUnavailable(
        f"message {message.message_id} was not sent after an earlier one failed: {cause}",
        message_id=message.message_id,
        broker=broker,
        message=message,
    )


def middleware_failed(publication: Publication, error: BaseException) -> PublishError:
    """A middleware raised an error of its own, in a publish of many."""
    name, about = _names(publication)
    failed = PublishError(
        f"{name}: a publish middleware raised {type(error).__name__}: {error}",
        maybe_sent=publication.is_uncertain,
        **about,
    )
    failed.__cause__ = error
    return failed


def of_its_own(publication: Publication, error: PublishError) -> PublishError:
    """Give an error its message; copy it if a middleware raised the same object for another message."""
    known = getattr(error, "message", None)
    if known is publication.message:
        return error
    if known is not None:
        shared = error
        try:
            error = copy.copy(shared)
        except Exception:  # noqa: BLE001 - a class of the middleware, whose __init__ is its own
            return middleware_failed(publication, shared)
        error.__cause__ = shared
    error.message = publication.message
    return error


def _without_reply(request: Request) -> RequestTimeout:
    name, about = _names(request)
    known = (
        "A queue has it; its consumers are slow, or there are none."
        if request.is_routed
        else "The broker has not even confirmed that a queue has it."
    )
    return RequestTimeout(
        f"{name} was sent, but no reply came within {request.timeout:g} s. {known} {MAYBE_HANDLED}",
        maybe_sent=True,
        **about,
    )


def _timeout_of(publication: Publication) -> type[PublishTimeout]:
    return RequestTimeout if isinstance(publication, Request) else PublishTimeout


def _names(publication: Publication) -> tuple[str, dict[str, Any]]:
    message = publication.message
    about = {"message_id": message.message_id, "broker": publication.broker, "message": message}
    kind = "request" if isinstance(publication, Request) else "message"
    return f"{kind} {message.message_id}", about
