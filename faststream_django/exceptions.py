"""What can go wrong, and what is known about the message when it does.

A publish has exactly three possible outcomes: *confirmed* (the call returned),
*not sent or refused* (an error with ``maybe_sent`` False), *unknown* (an error with ``maybe_sent`` True).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from faststream_django.messages.message import Message

__all__ = [
    "BrokerBlocked",
    "BrokerDoesNotExist",
    "BrokerRefused",
    "BrokerUnavailable",
    "BulkPublishError",
    "ConnectionLost",
    "DeclarationError",
    "DeclarationRefused",
    "DeclarationTimeout",
    "InboxNotReady",
    "InvalidBroker",
    "InvalidDeclaration",
    "InvalidMessage",
    "InvalidSubscriber",
    "MessageHasNoId",
    "MessageRejected",
    "MessageUnroutable",
    "OutboxNotReady",
    "PublishError",
    "PublishTimeout",
    "RequestFailed",
    "RequestTimeout",
    "TooManyInFlight",
]


class PublishError(Exception):
    """A message was not confirmed; ``maybe_sent`` says whether the broker may have it.

    ``message`` is the `Message`, which can be published again, or None if it could not be created.
    """

    maybe_sent = False

    def __init__(
        self,
        text: str,
        *,
        message_id: str | None = None,
        broker: str | None = None,
        message: Message | None = None,
        maybe_sent: bool | None = None,
    ) -> None:
        super().__init__(text)
        self.message_id = message_id
        self.broker = broker
        self.message = message
        if maybe_sent is not None:
            self.maybe_sent = maybe_sent


class InvalidMessage(PublishError, ValueError):
    """The message is invalid; it was refused in the caller's thread before anything was sent."""


class BrokerUnavailable(PublishError):
    """There was no connection to the broker in time; nothing was sent."""


class BrokerBlocked(BrokerUnavailable):
    """The broker blocks publishers (memory or disk alarm); nothing was sent."""


class BrokerRefused(BrokerUnavailable):
    """The broker refuses the connection: credentials, virtual host, limit or TLS. Waiting will not help."""


class TooManyInFlight(BrokerUnavailable):
    """The process already holds its limit of unconfirmed messages; nothing was sent."""


class MessageUnroutable(PublishError):
    """The broker returned the message: there is no such exchange, or no queue is bound to it."""


class MessageRejected(PublishError):
    """The broker refused this message: a full queue, no permission, or a failed precondition.

    ``maybe_sent`` is True for a nack if several queues may be bound: the others may have the message.
    """


class PublishTimeout(PublishError):
    """No answer came in time. ``maybe_sent`` is True if the message had been handed to the socket."""


class RequestTimeout(PublishTimeout):
    """No reply came in time. ``maybe_sent`` is True if the request may have been, or may yet be, handled."""


class ConnectionLost(PublishError):
    """The connection broke before the confirm or the reply arrived; the broker may have the message."""

    maybe_sent = True


class RequestFailed(PublishError):
    """The request was answered, but not with a value: its handler failed, or the reply cannot be decoded.

    ``error_type`` is the name of the exception class that the handler raised, such as "ValueError", or None
    if it raised none.
    """

    maybe_sent = True
    error_type: str | None = None

    def __init__(self, text: str, *, error_type: str | None = None, **about: Any) -> None:
        super().__init__(text, **about)
        if error_type is not None:
            self.error_type = error_type


class BulkPublishError(PublishError):
    """Some messages of a ``publish_many`` were not confirmed.

    ``errors`` maps the index of a message in the iterable to its error; ``confirmed`` is the number of
    confirmed messages. ``stopped_at`` is the index of the first message that was not even tried, since the
    iterable was not read further, or None if all were tried.
    """

    def __init__(
        self,
        text: str,
        *,
        errors: Mapping[int, PublishError],
        confirmed: int,
        broker: str | None = None,
        stopped_at: int | None = None,
    ) -> None:
        super().__init__(text, broker=broker, maybe_sent=any(error.maybe_sent for error in errors.values()))
        self.errors: Mapping[int, PublishError] = MappingProxyType(dict(errors))
        self.confirmed = confirmed
        self.stopped_at = stopped_at

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy cannot be pickled, and BaseException.__reduce__ knows no keyword arguments.
        make = partial(
            type(self),
            errors=dict(self.errors),
            confirmed=self.confirmed,
            broker=self.broker,
            stopped_at=self.stopped_at,
        )
        return make, self.args


class DeclarationError(Exception):
    """``brokers["alias"].declare()`` failed; ``broker`` is the alias. No message is affected."""

    def __init__(self, text: str, *, broker: str | None = None) -> None:
        super().__init__(text)
        self.broker = broker


class InvalidDeclaration(DeclarationError, ValueError):
    """The queues or exchanges are invalid; nothing was declared."""


class DeclarationRefused(DeclarationError):
    """The broker or its driver refused some of the queues, exchanges or bindings; the others were declared.

    ``reasons`` maps each refused one to the reason.
    """

    def __init__(
        self, text: str, *, broker: str | None = None, reasons: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text, broker=broker)
        self.reasons: Mapping[str, str] = dict(reasons or {})


class DeclarationTimeout(DeclarationError):
    """Some answers did not come in time, so some may not be declared; it is safe to declare them again."""


class InvalidBroker(ImproperlyConfigured):
    """An entry in ``settings.FASTSTREAM`` is wrong."""


class BrokerDoesNotExist(InvalidBroker, KeyError):
    """No entry in ``settings.FASTSTREAM`` has this alias."""

    __str__ = Exception.__str__  # KeyError would show the repr of the text


class InvalidSubscriber(ImproperlyConfigured):
    """A subscriber does not fit the settings, or another subscriber; nothing is consumed."""


class OutboxNotReady(ImproperlyConfigured):
    """The outbox cannot store messages in this database: its app, its table or the engine is missing."""


class InboxNotReady(ImproperlyConfigured):
    """The inbox cannot record messages in this database: its app, its table or the engine is missing."""


class MessageHasNoId(ValueError):
    """An `@idempotent` handler got a message without an id: nobody can tell whether it was handled before."""
