"""Where a message goes and what it says about itself, as AMQP has it.

Each function returns the value as the driver takes it, or raises InvalidMessage, which names the
place and the cure. Refused is what the driver would refuse on the loop thread, and what makes
RabbitMQ close the channel under the messages of others.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from faststream_django.exceptions import InvalidMessage

if TYPE_CHECKING:
    from faststream.rabbit import RabbitExchange, RabbitQueue

__all__ = [
    "as_destination",
    "as_expiration",
    "as_flag",
    "as_identifier",
    "as_priority",
    "as_property",
    "as_reply_to",
    "as_timestamp",
    "kind_of",
    "short_text",
]

MAX_EXPIRATION = 4_294_967.295  # seconds; RabbitMQ counts milliseconds in 32 bits

# pamqp refuses any other name, also of an exchange that exists.
_EXCHANGE_NAME = re.compile(r"[a-zA-Z0-9\-_.:@#,/+ ]{0,127}")


def as_destination(
    queue: str | RabbitQueue, exchange: str | RabbitExchange | None, routing_key: str
) -> tuple[str, str]:
    """Return the exchange name (empty: the default exchange) and the routing key."""
    name = "" if exchange is None else _exchange_name(exchange)
    key = short_text("routing_key", routing_key) if routing_key != "" else _queue_name(queue)
    if not name and not key:
        raise InvalidMessage(
            "there is no destination; pass a queue, or an exchange (with a routing_key if it needs one)"
        )
    return name, key


def as_property(place: str, value: Any) -> str | None:
    """Return a text of at most 255 bytes; an empty one counts as left out, as in FastStream."""
    if value is None or value == "":
        return None
    return short_text(place, value)


def as_identifier(place: str, value: Any) -> str | None:
    """Return an id, which may also be given as a UUID."""
    return str(value) if isinstance(value, UUID) else as_property(place, value)


def as_reply_to(value: Any) -> str | None:
    """Return the queue for replies; never RabbitMQ's pseudo-queue, which needs a consumer."""
    if value == "amq.rabbitmq.reply-to":
        # 406 "fast reply consumer does not exist": the channel closes under everybody.
        raise InvalidMessage(
            "reply_to 'amq.rabbitmq.reply-to' needs a channel that consumes the replies, and this "
            "one only publishes; name a queue, or use request() of a FastStream broker"
        )
    return as_property("reply_to", value)


def as_expiration(value: Any) -> float | None:
    """Return seconds from now."""
    if value is None:
        return None
    seconds = _seconds_left(value)
    if not 0 <= seconds <= MAX_EXPIRATION:  # NaN fails too
        raise InvalidMessage(f"expiration is {seconds:g} seconds from now; it must be 0 to {MAX_EXPIRATION}")
    return seconds


def as_priority(value: Any) -> int | None:
    """Return a priority from 0 to 255."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidMessage(f"priority is {kind_of(value)}; pass an int from 0 to 255")
    if not 0 <= value <= 255:
        raise InvalidMessage("priority is out of range; pass an int from 0 to 255")
    return int(value)


def as_timestamp(value: Any) -> datetime:
    """Return an aware datetime in UTC, by default now; a naive one is local time."""
    if value is None:
        return datetime.now(UTC)
    if not isinstance(value, datetime | int | float) or isinstance(value, bool):
        raise InvalidMessage(f"timestamp is {kind_of(value)}; pass a datetime or seconds since the epoch")
    try:
        moment = value.astimezone(UTC) if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        moment = None
    if moment is None or moment.year < 1970:
        raise InvalidMessage(
            "timestamp is not between 1970 and 9999; pass a datetime, or seconds (not "
            "milliseconds) since the epoch"
        )
    return moment


def as_flag(place: str, value: Any) -> bool:
    """Return a bool, by default True."""
    if value is None:
        return True
    if not isinstance(value, bool):
        raise InvalidMessage(f"{place} is {kind_of(value)}; pass True or False")
    return value


def short_text(place: str, value: Any, limit: int = 255) -> str:
    """Return a plain str that fits an AMQP short string and cannot forge a line of a log.

    Every character must be one that prints, as in the names of the settings.
    """
    if type(value) is str and value.isascii() and value.isprintable() and len(value) <= limit:
        return value
    if not isinstance(value, str):
        raise InvalidMessage(f"{place} is {kind_of(value)}; pass a str")
    try:
        size = len(str.encode(value))
    except UnicodeEncodeError:
        raise InvalidMessage(f"{place} is not valid Unicode (it has a lone surrogate); replace it") from None
    if not str.isprintable(value):
        # Also what other programs take for the end of a line (U+2028) or for the order of the text (U+202E).
        point = next(ord(each) for each in str.__str__(value) if not each.isprintable())
        raise InvalidMessage(
            f"{place} has a control character or another one that does not print (U+{point:04X}); remove it"
        )
    if size > limit:
        raise InvalidMessage(f"{place} has {size} bytes, and {limit} are allowed; shorten it")
    return str.__str__(value)  # an Enum member or a SafeString becomes the text that it is


def kind_of(value: Any) -> str:
    """Return "a list", "an int" or "None", to speak of a value without showing it."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _queue_name(queue: Any) -> str:
    if not isinstance(queue, str):
        routing = getattr(queue, "routing", None)
        if not callable(routing):
            raise InvalidMessage(f"queue is {kind_of(queue)}; pass a str or a RabbitQueue{_first(queue)}")
        queue = routing()
    elif queue[:1] in {"{", "["} and _is_json(queue):
        raise InvalidMessage(f"queue is a text of JSON{_first(queue)}")
    return short_text("queue", queue)


def _first(value: object) -> str:
    """Say what users of pika and kombu look for, who give the destination before the message."""
    return "" if value is None else ". The message comes first: publish(message, queue, exchange)"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _exchange_name(exchange: Any) -> str:
    name = exchange if isinstance(exchange, str) else getattr(exchange, "name", None)
    if not isinstance(name, str):
        raise InvalidMessage(
            f"exchange is {kind_of(exchange)}; pass a str or a RabbitExchange{_first(exchange)}"
        )
    if not _EXCHANGE_NAME.fullmatch(name):
        raise InvalidMessage(
            f"exchange {reprlib.repr(str.__str__(name))} is not a name that the driver accepts; "
            "use at most 127 ASCII letters, digits, spaces and any of - _ . : @ # , / +"
        )
    return str.__str__(name)


def _seconds_left(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidMessage("expiration is a naive datetime; pass an aware one, a timedelta or seconds")
        return (value - datetime.now(UTC)).total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidMessage(
            f"expiration is {kind_of(value)}; pass seconds, a timedelta or an aware datetime"
        )
    try:
        return float(value)
    except OverflowError:
        return math.inf
