"""What was captured: the messages, questions about them, and assertions."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload
from unittest.mock import ANY

from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.message import Message
from faststream_django.testing.capture import Capture

if TYPE_CHECKING:
    from faststream.rabbit import RabbitExchange, RabbitQueue

__all__ = ["CapturedMessage", "CapturedMessages"]


@dataclass(frozen=True, slots=True, repr=False)
class CapturedMessage:
    """A message as it would have reached the broker."""

    message: Message
    broker: str
    """The alias of the broker."""

    @property
    def body(self) -> Any:
        """The body as a FastStream subscriber without annotations would receive it."""
        return self.message.decode()

    @property
    def queue(self) -> str:
        """The queue, or an empty string for a message to an exchange."""
        return "" if self.message.exchange else self.message.routing_key

    @property
    def exchange(self) -> str:
        """The exchange, or an empty string for a message to a queue."""
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
    """The messages published so far, in order; fixed once the capture has ended."""

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
        """Forget the messages published so far."""
        self._capture.clear()

    def to(
        self,
        queue: str | RabbitQueue | None = None,
        exchange: str | RabbitExchange | None = None,
        *,
        routing_key: str | None = None,
        broker: str | None = None,
    ) -> list[CapturedMessage]:
        """Return the messages to this destination, given as for publish(); anything left out matches all."""
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
        """Return the matching messages, or raise AssertionError with a list of what was published.

        ``body`` is what was passed to publish(), or what a subscriber would receive. ``headers`` must be
        among those of the message. ``count`` is the exact number, which may be 0; by default at least one.
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
