"""What the caller of a verb gave, checked and encoded: messages, their brokers and deadlines."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar
from uuid import UUID

from faststream_django.conf.entries import broker_settings
from faststream_django.conf.setting import YEAR, nearest
from faststream_django.connection.bulk import CHUNK_MESSAGES, Item
from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.message import Message

if TYPE_CHECKING:
    from faststream.rabbit import RabbitExchange, RabbitQueue

__all__ = [
    "Outgoing",
    "PublishOptions",
    "RequestOptions",
    "aitems",
    "encode",
    "encode_all",
    "items",
    "refuse_one_message",
    "refuse_unknown",
    "requests_spelled_out",
    "spelled_out",
    "target",
]


class PublishOptions(TypedDict, total=False):
    """The keyword arguments that every verb takes, with FastStream's names and meaning."""

    routing_key: str
    """Overrides the queue as routing key."""
    broker: str
    """The alias in ``settings.FASTSTREAM``; the default is ``"default"``."""
    headers: Mapping[str, Any] | None
    """Names and str, bool, int, float, Decimal, datetime, bytes, None, lists and dicts of them; 64 kB."""
    correlation_id: str | UUID | None
    """The default is the message id."""
    message_id: str | UUID | None
    """The default is a new UUID."""
    reply_to: str | None
    """The queue for a reply; publishing does not wait for one."""
    content_type: str | None
    """The default follows from the message: JSON, plain text, or none for bytes."""
    content_encoding: str | None
    """For example "gzip"; the body is sent unchanged."""
    expiration: float | timedelta | datetime | None
    """Seconds, a timedelta or an aware datetime, after which the broker may drop the message."""
    priority: int | None
    """0 to 255; only used by queues with ``x-max-priority``."""
    timestamp: float | datetime | None
    """A datetime or seconds since the epoch, sent in whole seconds; the default is now."""
    message_type: str | None
    """A word for the consumer, such as "order.created"."""
    persist: bool | None
    """Whether the message survives a restart of the broker; the default is True."""
    mandatory: bool | None
    """Whether it is an error if the message reaches no queue; the default is True."""
    app_id: str | None
    """The name of the publishing application; the default is the alias's OPTIONS["app_id"], else
    "faststream_django"."""
    timeout: float | timedelta | None
    """Seconds, or a timedelta, for the whole call; the default is the alias's TIMEOUT."""


class RequestOptions(TypedDict, total=False):
    """The keyword arguments of request(): those of publish() that a message with a reply can have."""

    routing_key: str
    """Overrides the queue as routing key."""
    broker: str
    """The alias in ``settings.FASTSTREAM``; the default is ``"default"``."""
    headers: Mapping[str, Any] | None
    """As for publish()."""
    message_id: str | UUID | None
    """The default is a new UUID."""
    content_type: str | None
    """The default follows from the message: JSON, plain text, or none for bytes."""
    content_encoding: str | None
    """For example "gzip"; the body is sent unchanged."""
    expiration: float | timedelta | datetime | None
    """When the broker may drop the request if no handler has it; the default is when the time is over."""
    priority: int | None
    """0 to 255; only used by queues with ``x-max-priority``."""
    timestamp: float | datetime | None
    """A datetime or seconds since the epoch, sent in whole seconds; the default is now."""
    message_type: str | None
    """A word for the consumer, such as "price.asked"."""
    persist: bool | None
    """Whether the request survives a restart of the broker, as its reply does not; the default is False."""
    app_id: str | None
    """The name of the requesting application; as for publish()."""
    timeout: float | timedelta | None
    """Seconds, or a timedelta, until the reply must have come; the default is the alias's TIMEOUT."""


Verb = TypeVar("Verb", bound=Callable[..., Any])


def spelled_out(verb: Verb, known: type = PublishOptions) -> Verb:
    """Have help() and inspect show each option of a verb, where it says ``**options``."""
    given = inspect.signature(verb)
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default={"routing_key": "", "broker": "default"}.get(name),
            annotation=getattr(annotation, "__forward_arg__", annotation),
        )
        for name, annotation in known.__annotations__.items()
    ]
    own = [each for each in given.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    verb.__signature__ = given.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return verb


requests_spelled_out = partial(spelled_out, known=RequestOptions)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message, the alias of its broker, and the seconds that its publication may take."""

    message: Message
    broker: str
    timeout: float | None


def encode(
    message: Any,
    queue: str | RabbitQueue,
    exchange: str | RabbitExchange | None,
    options: PublishOptions,
) -> Outgoing:
    """Encode and check a message in the thread of the caller; a `Message` is taken as it is."""
    alias, timeout = target(options)
    settings = broker_settings(alias)
    if isinstance(message, Message):
        _refuse_destination(queue, exchange, options)
        return Outgoing(message, alias, timeout)
    properties: dict[str, Any] = {
        name: value for name, value in options.items() if name not in {"broker", "timeout"}
    }
    if "app_id" in settings.options and properties.get("app_id") is None:
        properties["app_id"] = settings.options["app_id"]
    encoded = Message.encode(
        message,
        queue,
        exchange,
        broker=alias,
        max_bytes=settings.max_message_bytes,
        codec=settings.options.get("codec"),
        id_generator=settings.options.get("id_generator"),
        **properties,
    )
    return Outgoing(encoded, alias, timeout)


def encode_all(
    messages: Iterable[Any],
    queue: str | RabbitQueue,
    exchange: str | RabbitExchange | None,
    options: PublishOptions,
) -> list[Outgoing]:
    """Encode and check several messages for one broker; items that are a `Message` are taken as they are."""
    refuse_one_message(messages, options)
    alias, timeout = target(options)
    return [
        Outgoing(each, alias, timeout)
        if isinstance(each, Message)
        else encode(each, queue, exchange, options)
        for each in messages
    ]


def target(options: PublishOptions) -> tuple[str, float | None]:
    """Check the names of the options; return the alias and the timeout."""
    refuse_unknown(options, PublishOptions)
    alias = options.get("broker", "default")
    timeout = options.get("timeout")
    return alias, None if timeout is None else _seconds(timeout, alias)


def _seconds(timeout: object, alias: str) -> float:
    number = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= YEAR:
        raise InvalidMessage(
            f"timeout: {timeout!r} is not a number of seconds or a timedelta, above 0 and at most a year.",
            broker=alias,
        )
    return number


def refuse_unknown(options: Mapping[str, Any], known: type) -> None:
    """Raise TypeError for an option that is not among the `known` ones."""
    names = known.__annotations__
    if options.keys() <= names.keys():
        return
    name = next(name for name in options if name not in names)
    hint = "broker" if name == "using" else nearest(name, names)
    suggestion = f" (did you mean {hint}=?)" if hint else ""
    raise TypeError(f"unexpected keyword argument {name!r}{suggestion}")


def _refuse_destination(queue: object, exchange: object, options: Mapping[str, Any]) -> None:
    given = [name for name in options if name not in {"broker", "timeout"}]
    if queue or exchange is not None or given:
        raise TypeError(
            "A Message has its destination and its properties already; only broker= and timeout= can "
            "be given with it."
        )


def refuse_one_message(messages: object, options: PublishOptions) -> None:
    """Refuse what is meant as one message: its characters or keys would be published, or one id for all."""
    if isinstance(messages, str | bytes | bytearray | Mapping | Message):
        raise TypeError(
            f"publish_many() takes an iterable of messages, not one {type(messages).__name__}. Put it in a "
            "list, or use publish()."
        )
    if options.get("message_id") is not None:
        raise TypeError(
            "publish_many() cannot give all messages the same message_id. Leave it out, and each gets one of "
            "its own; or pass messages made by Message.encode(..., message_id=...)."
        )


def items(
    messages: Iterable[Any],
    queue: str | RabbitQueue,
    exchange: str | RabbitExchange | None,
    options: PublishOptions,
) -> Iterable[Item]:
    encoded = (_item(message, queue, exchange, options) for message in messages)
    # What has its messages already is no slow source, which send_many() would have to watch.
    is_short = isinstance(messages, list | tuple) and len(messages) <= CHUNK_MESSAGES
    return list(encoded) if is_short else encoded


async def aitems(
    messages: Iterable[Any] | AsyncIterable[Any],
    queue: str | RabbitQueue,
    exchange: str | RabbitExchange | None,
    options: PublishOptions,
) -> AsyncIterator[Item]:
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield _item(message, queue, exchange, options)
    else:
        for message in messages:
            yield _item(message, queue, exchange, options)


def _item(
    message: Any,
    queue: str | RabbitQueue,
    exchange: str | RabbitExchange | None,
    options: PublishOptions,
) -> Item:
    if isinstance(message, Message):
        return message
    try:
        return encode(message, queue, exchange, options).message
    except InvalidMessage as error:
        return error
