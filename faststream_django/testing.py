"""The test kit: catch what would be published, without a broker."""

from __future__ import annotations

import asyncio
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload
from unittest.mock import ANY

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

from faststream_django.capturing import Capture, Failure, capturing
from faststream_django.exceptions import BulkPublishError, InvalidMessage, PublishError
from faststream_django.messages import Message

if TYPE_CHECKING:
    from faststream.rabbit import RabbitExchange, RabbitQueue

__all__ = ["CapturedMessage", "CapturedMessages", "capture_messages"]


class capture_messages:  # noqa: N801 - a context manager, named as Django's override_settings
    """Catch what would be published, in every thread of this process; no broker is needed.

    Everything is checked as ever: a bad payload, option or alias raises. The signals are sent as if a
    broker had confirmed each message. Messages of publish_on_commit() appear when their transaction
    commits; in the transaction of a TestCase, which never commits, when the code under test would have
    committed. Captures can be nested: every one sees the messages.

    With ``fail_with``, a PublishError or a subclass of it, every publish fails instead, and nothing is
    captured. In async code use ``async with``.
    """

    def __init__(self, *, fail_with: Failure | None = None) -> None:
        if fail_with is not None:
            _check_failure(fail_with)
        self._fail_with = fail_with
        self._exits: list[ExitStack] = []

    def __enter__(self) -> CapturedMessages:
        _refuse_in_event_loop()
        return self._enter()

    def __exit__(self, *exc_info: object) -> None:
        self._exits.pop().close()

    async def __aenter__(self) -> CapturedMessages:
        # Where the ORM runs: a transaction belongs to the connection of that thread.
        return await sync_to_async(self._enter)()

    async def __aexit__(self, *exc_info: object) -> None:
        await sync_to_async(self.__exit__)()

    def _enter(self) -> CapturedMessages:
        stack = ExitStack()
        capture = stack.enter_context(capturing(self._fail_with))
        self._exits.append(stack)
        return CapturedMessages(capture)


@dataclass(frozen=True, slots=True, repr=False)
class CapturedMessage:
    """A message as it would have reached the broker."""

    message: Message
    broker: str
    """The alias of the broker."""

    @property
    def body(self) -> Any:
        """The body as a FastStream subscriber without annotations gets it."""
        return self.message.decode()

    @property
    def queue(self) -> str:
        """The queue, or an empty text for a message to an exchange."""
        return "" if self.message.exchange else self.message.routing_key

    @property
    def exchange(self) -> str:
        """The exchange, or an empty text for a message to a queue."""
        return self.message.exchange

    @property
    def routing_key(self) -> str:
        return self.message.routing_key

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.message.headers

    @property
    def message_id(self) -> str:
        return self.message.message_id

    @property
    def correlation_id(self) -> str:
        return self.message.correlation_id

    def __repr__(self) -> str:
        return f"<CapturedMessage to {self.message.destination}: {_shown(_decoded(self.message))}>"


class CapturedMessages(Sequence[CapturedMessage]):
    """What was published so far, in that order; fixed when the capture ends."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    def __len__(self) -> int:
        return len(self._capture.published())

    @overload
    def __getitem__(self, index: int) -> CapturedMessage: ...
    @overload
    def __getitem__(self, index: slice) -> list[CapturedMessage]: ...
    def __getitem__(self, index: int | slice) -> CapturedMessage | list[CapturedMessage]:
        return list(self)[index]

    def __iter__(self) -> Iterator[CapturedMessage]:
        published = self._capture.published()
        return iter([CapturedMessage(each.message, each.broker) for each in published])

    def __repr__(self) -> str:
        return f"<CapturedMessages {list(self)!r}>"

    def clear(self) -> None:
        """Forget what was published so far."""
        self._capture.clear()

    def to(
        self,
        queue: str | RabbitQueue | None = None,
        exchange: str | RabbitExchange | None = None,
        *,
        routing_key: str | None = None,
        broker: str | None = None,
    ) -> list[CapturedMessage]:
        """Return the messages with this destination, given as to publish(); what is left out is any."""
        wanted = _attributes(queue, exchange, routing_key, broker)
        return [
            captured
            for captured in self
            if all(getattr(captured, name) == value for name, value in wanted.items())
        ]

    def assert_published(
        self,
        queue: str | RabbitQueue | None = None,
        exchange: str | RabbitExchange | None = None,
        *,
        routing_key: str | None = None,
        broker: str | None = None,
        body: Any = ANY,
        headers: Mapping[str, Any] | None = None,
        count: int | None = None,
    ) -> list[CapturedMessage]:
        """Return the messages that match, or raise AssertionError with a list of what was published.

        ``body`` is what was passed to publish(), or what a subscriber gets. ``headers`` must be among
        those of the message. ``count`` is the exact number, zero too; left out, at least one.
        """
        expected = _as_received(body)
        found = [
            captured
            for captured in self.to(queue, exchange, routing_key=routing_key, broker=broker)
            if _decoded(captured.message) in expected and (headers or {}).items() <= captured.headers.items()
        ]
        if len(found) == count or (count is None and found):
            return found
        number = "at least 1" if count is None else str(count)
        text = f"Expected {number} to {_said(**_attributes(queue, exchange, routing_key, broker))}"
        text += "" if body is ANY else f" with body {_shown(body)}"
        text += "" if headers is None else f" with headers {_shown(dict(headers))}"
        raise AssertionError(f"{text}; found {len(found)}.\n{self._listing()}")

    def _listing(self) -> str:
        """Tell what was published, and what still waits for an atomic block to end."""
        published, held = self._capture.published(), self._capture.waiting()
        lines = [f"Published were {len(published)}:" if published else "Nothing was published."]
        lines += [f"  {number}. {_line(each.message)}" for number, each in enumerate(published, 1)]
        if held:
            lines.append(f"{len(held)} more wait for an atomic block that is still open:")
            lines += [f"  - {_line(each.message)}" for each in held]
        return "\n".join(lines)


def _attributes(
    queue: str | RabbitQueue | None,
    exchange: str | RabbitExchange | None,
    routing_key: str | None,
    broker: str | None,
) -> dict[str, str]:
    """Return what a message with this destination has; what is left out is any."""
    if exchange is None and queue is not None:
        exchange = ""
    if routing_key is None:
        routing_key = queue if queue is None or isinstance(queue, str) else queue.routing()
    name = exchange if exchange is None or isinstance(exchange, str) else exchange.name
    attributes = {"exchange": name, "routing_key": routing_key, "broker": broker}
    return {name: value for name, value in attributes.items() if value is not None}


def _said(exchange: str | None = None, routing_key: str | None = None, broker: str | None = None) -> str:
    if exchange == "":
        text = "any queue" if routing_key is None else f"queue {routing_key!r}"
    else:
        text = "any destination" if exchange is None else f"exchange {exchange!r}"
        text += "" if routing_key is None else f" with routing key {routing_key!r}"
    return text if broker is None else f"{text} of broker {broker!r}"


def _refuse_in_event_loop() -> None:
    """Refuse what would miss messages: in async code the transaction is on another thread."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
            raise SynchronousOnlyOperation(
                "capture_messages() in async code would not see the messages of publish_on_commit(): "
                "write `async with capture_messages() as messages:`."
            )


def _check_failure(fail_with: object) -> None:
    kind = fail_with if isinstance(fail_with, type) else type(fail_with)
    if not issubclass(kind, PublishError) or issubclass(kind, BulkPublishError):
        raise TypeError(
            f"fail_with is {kind.__name__}; pass what a message fails with, such as BrokerUnavailable "
            "or ConnectionLost('...') of faststream_django.exceptions."
        )


def _as_received(body: Any) -> list[Any]:
    """Return what a body may look like once it was decoded: as it is, or after the trip."""
    received = [body]
    if body is not ANY:
        with suppress(InvalidMessage):  # it compares by itself, as pytest.approx() does
            received.append(Message.encode(body, "any").decode())
    return received


def _decoded(message: Message) -> Any:
    try:
        return message.decode()
    except ValueError:  # the content type promises what the body is not
        return message.body


def _line(message: Message) -> str:
    headers = f" {_shown(dict(message.headers))}" if message.headers else ""
    return f"{message.destination}: {_shown(_decoded(message))}{headers}"


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxdict, _repr.maxlist, _repr.maxstring, _repr.maxother = 4, 12, 12, 120, 120
_shown = _repr.repr
