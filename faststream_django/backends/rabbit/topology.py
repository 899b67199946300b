"""Declares exchanges, queues and bindings: those of the settings, and those that are asked for later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiormq.exceptions import (
    AMQPError,
    ChannelClosed,
    ChannelInvalidStateError,
    ConnectionCommandInvalid,
    ConnectionFrameError,
    ConnectionInternalError,
    ConnectionNotImplemented,
    ConnectionSyntaxError,
)

from faststream_django.conf.entries import BrokerSettings
from faststream_django.conf.topology import Binding, ExchangeSettings, QueueSettings

__all__ = ["Declaration", "Topology", "declare_now"]

logger = logging.getLogger("faststream_django.connection")

# What the broker ends a connection with for a declaration, such as 503 for an unknown type of exchange.
ENDS_CONNECTION = (
    ConnectionCommandInvalid,
    ConnectionFrameError,
    ConnectionInternalError,
    ConnectionNotImplemented,
    ConnectionSyntaxError,
)

OpenChannel = Callable[[], Awaitable[Any]]


class ConnectionEnded(ConnectionError):
    """The broker ended the connection for a declaration."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One method that declares; `names` are the exchanges and queues whose messages miss it."""

    names: tuple[str, ...]
    text: str
    send: Callable[[Any], Awaitable[object]] = field(compare=False, repr=False)


Failed = Callable[[Declaration, BaseException], None]


class Topology:
    """What the settings of an alias declare, on each of its connections.

    A failure is told once in the log, and in the errors of what is published there. A declaration that the
    broker ends the connection for is not sent again: no connection would live.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.alias = settings.alias
        passive = settings.declare == "passive"
        self._declarations = (
            tuple(declarations(settings.queues, settings.exchanges, passive=passive))
            if settings.declare
            else ()
        )
        self._fatal: dict[Declaration, str] = {}
        self._told: set[tuple[Declaration, str]] = set()

    def __bool__(self) -> bool:
        return bool(self._declarations)

    async def declare(self, open_channel: OpenChannel, errors: dict[str, str]) -> None:
        """Declare everything; note in `errors` why a name could not be declared."""
        for declaration, reason in self._fatal.items():
            _note(errors, declaration, reason)

        def failed(declaration: Declaration, error: BaseException) -> None:
            reason = _reason(error)
            if isinstance(error, ConnectionEnded):
                self._fatal[declaration] = reason
            _note(errors, declaration, reason)
            if (declaration, reason) not in self._told:
                self._told.add((declaration, reason))
                logger.error("broker=%s declare=%r error=%r", self.alias, declaration.text, reason)

        await declare(open_channel, [each for each in self._declarations if each not in self._fatal], failed)


async def declare(open_channel: OpenChannel, wanted: Iterable[Declaration], failed: Failed) -> None:
    """Declare on channels of their own, without waiting for one answer before the next question.

    The broker closes the channel for a declaration that fails, so those that were sent after it are sent
    again. Raises ConnectionEnded if it closes the connection, ConnectionResetError if that is lost.
    """
    left = list(wanted)
    while left:
        channel = await open_channel()
        errors = await asyncio.gather(*(_attempt(each, channel) for each in left))
        again: list[Declaration] = []
        is_closed = False
        for declaration, error in zip(left, errors, strict=True):
            if error is None:
                continue
            if is_closed and _is_of_channel(error):
                again.append(declaration)
                continue
            is_closed = is_closed or _is_of_channel(error)
            if _is_of_channel(error) and not isinstance(error, ChannelClosed | ConnectionEnded):
                raise ConnectionResetError(_reason(error)) from error
            failed(declaration, error)
            if isinstance(error, ConnectionEnded):
                raise error
        if not channel.is_closed:
            await channel.close()
        left = again


async def declare_now(
    open_channel: OpenChannel,
    queues: Iterable[QueueSettings],
    exchanges: Iterable[ExchangeSettings],
    *,
    passive: bool = False,
) -> dict[str, str]:
    """Declare what is asked for at run time; return the reason for each declaration that was refused."""
    reasons: dict[str, str] = {}

    def failed(declaration: Declaration, error: BaseException) -> None:
        reasons[declaration.text] = _reason(error)
        if isinstance(error, ConnectionEnded):
            reasons[declaration.text] += (
                " (the broker closed the connection: what follows it is not declared)"
            )

    with suppress(ConnectionEnded):
        await declare(open_channel, declarations(queues, exchanges, passive=passive), failed)
    return reasons


def declarations(
    queues: Iterable[QueueSettings], exchanges: Iterable[ExchangeSettings], *, passive: bool = False
) -> Iterator[Declaration]:
    """Return what is to be declared, in an order in which each finds what it needs."""
    queues, exchanges = tuple(queues), tuple(exchanges)
    targets: tuple[QueueSettings | ExchangeSettings, ...] = (*exchanges, *queues)
    for exchange in exchanges:
        yield _exchange(exchange, passive=passive)
    for queue in queues:
        yield _queue(queue, passive=passive)
    if passive:  # AMQP has no passive bind
        return
    for target in targets:
        for binding in target.bindings:
            yield _binding(target, binding)


async def _attempt(declaration: Declaration, channel: Any) -> BaseException | None:
    try:
        await declaration.send(channel)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return error
    except ENDS_CONNECTION as error:
        return ConnectionEnded(str(error))
    except Exception as error:  # noqa: BLE001 - sorted out by declare()
        return error
    return None


def _is_of_channel(error: BaseException) -> bool:
    """Tell whether the channel is closed with it; else the driver refused the values alone."""
    return isinstance(error, AMQPError | ChannelInvalidStateError | ConnectionError | asyncio.CancelledError)


def _note(errors: dict[str, str], declaration: Declaration, reason: str) -> None:
    for name in declaration.names:
        errors.setdefault(name, reason if len(declaration.names) == 1 else f"{declaration.text}: {reason}")


def _reason(error: BaseException) -> str:
    return (
        str(error) if isinstance(error, AMQPError | ConnectionEnded) else f"{type(error).__name__}: {error}"
    )


def _exchange(exchange: ExchangeSettings, *, passive: bool) -> Declaration:
    return Declaration(
        (exchange.name,),
        f"exchange {exchange.name!r}",
        lambda channel: channel.exchange_declare(
            exchange.name,
            exchange_type=exchange.type,
            passive=passive,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=_arguments(exchange.arguments),
        ),
    )


def _queue(queue: QueueSettings, *, passive: bool) -> Declaration:
    # As FastStream declares it, so that a subscriber of the same queue agrees.
    arguments = {"x-queue-type": queue.type, **queue.arguments}
    return Declaration(
        (queue.name,),
        f"queue {queue.name!r}",
        lambda channel: channel.queue_declare(
            queue.name,
            passive=passive,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=_arguments(arguments),
        ),
    )


def _binding(target: QueueSettings | ExchangeSettings, binding: Binding) -> Declaration:
    kind, bind = (
        ("queue", "queue_bind") if isinstance(target, QueueSettings) else ("exchange", "exchange_bind")
    )
    return Declaration(
        (target.name, binding.source),
        f"binding of {kind} {target.name!r} to exchange {binding.source!r} by {binding.routing_key!r}",
        lambda channel: getattr(channel, bind)(
            target.name,
            binding.source,
            routing_key=binding.routing_key,
            arguments=_arguments(binding.arguments),
        ),
    )


def _arguments(value: Any) -> Any:
    """Return them as pamqp takes them, which knows bytes by the name of bytearray only."""
    if isinstance(value, Mapping):
        return {name: _arguments(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_arguments(each) for each in value]
    return bytearray(value) if isinstance(value, bytes) else value
