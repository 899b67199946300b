"""Any FastStream broker from synchronous code, without Django settings: Flask, scripts, notebooks."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from faststream_django.conf.entries import BrokerSettings
from faststream_django.connection.bulk import Item
from faststream_django.connection.connection import Connection
from faststream_django.connection.errors import conclude_bulk
from faststream_django.connection.passthrough import NativeConnection
from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.message import Message

if TYPE_CHECKING:
    from faststream._internal.broker import BrokerUsecase

    Broker = BrokerUsecase[Any, Any, Any]

__all__ = ["SyncBroker"]

ALIAS = "SyncBroker"


class SyncBroker:
    """Publishes through a FastStream broker from any thread, even one with a running event loop.

    Takes a broker or a function that returns one. The broker is not started, so its subscribers do not
    run. With RabbitMQ every publish is persistent, mandatory and confirmed, with the errors and guarantees
    of faststream_django.publish(), and it works after a fork. Any other kind of broker keeps the semantics
    of its own ``publish()``, within the timeout; if it must work after a fork, pass a function.

    Times are in seconds. ``timeout`` is the default for each publish, ``connect_timeout`` limits each
    attempt to connect, and ``shutdown_timeout`` limits the wait for messages in flight on stop() and at exit.
    """

    def __init__(
        self,
        broker: Broker | Callable[[], Broker],
        *,
        timeout: float = 5.0,
        connect_timeout: float = 3.0,
        heartbeat: int = 10,
        shutdown_timeout: float = 10.0,
        max_message_bytes: int = 1_048_576,
        max_in_flight: int = 1000,
    ) -> None:
        self._given = broker
        self._limits: dict[str, Any] = {
            "timeout": timeout,
            "connect_timeout": connect_timeout,
            "heartbeat": heartbeat,
            "shutdown_timeout": shutdown_timeout,
            "max_message_bytes": max_message_bytes,
            "max_in_flight": max_in_flight,
        }
        self._made: dict[str, _Made] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to connect in the background; return at once, whatever the state of the broker."""
        self._make().connection.start()

    def stop(self, timeout: float | None = None) -> None:
        """Settle the messages in flight and close the connection; the next publish connects again."""
        for made in tuple(self._made.values()):
            made.connection.stop(timeout)

    def publish(self, message: Any, *destination: Any, timeout: float | None = None, **options: Any) -> Any:
        """Publish with the arguments of the broker's own ``publish()``; raise PublishError within `timeout`.

        With RabbitMQ, return the message id once the message is confirmed; with any other broker, return
        what its own ``publish()`` returns.
        """
        made = self._make()
        if isinstance(made.connection, NativeConnection):
            return made.connection.publish(message, *destination, timeout=timeout, **options)
        encoded = made.encode(message, destination, options)
        made.connection.send(encoded, timeout)
        return encoded.message_id

    def publish_many(
        self,
        messages: Iterable[Any],
        *destination: Any,
        timeout: float | None = None,
        **options: Any,
    ) -> int:
        """See faststream_django.publish_many(); RabbitMQ only."""
        made = self._make()
        if isinstance(made.connection, NativeConnection):
            raise TypeError("publish_many() needs a RabbitBroker; publish one by one instead.")
        items = made.items(messages, destination, options)
        return conclude_bulk(made.connection.send_many(items, timeout), ALIAS)

    def _make(self) -> _Made:
        made = self._made.get(ALIAS)
        if made is None:
            # Of threads that come first together one wins: the others drop what never connected. No lock,
            # which a fork could inherit.
            mine = self._make_connection()
            made = self._made.setdefault(ALIAS, mine)
            if made is mine:
                # Whoever forgets stop() does not keep a connection open that nobody can use any more.
                finalizer = weakref.finalize(self, made.connection.begin_stop)
                finalizer.atexit = False  # the loop thread has an exit of its own
        return made

    def _make_connection(self) -> _Made:
        broker: Any = self._given() if callable(self._given) else self._given
        if not _is_rabbit(broker):
            return _Made(NativeConnection(self._given, **self._limits))
        # In the caller's thread: whoever made a RabbitBroker has imported nearly all of it.
        from faststream_django.backends.rabbit.backend import RabbitBackend

        options = broker._connection_kwargs  # noqa: SLF001 - FastStream's parsed URL has no other name
        settings = BrokerSettings(alias=ALIAS, urls=(options["url"],), backend="", **self._limits)
        return _Made(
            Connection(settings, lambda: RabbitBackend(settings, make_broker=lambda _: broker)),
            defaults={"app_id": broker.config.app_id},
            encoding={
                "codec": broker.config.broker_codec,
                "max_bytes": settings.max_message_bytes,
                "broker": ALIAS,
            },
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """What the first use makes: a connection, and how its messages are encoded."""

    connection: Connection | NativeConnection
    defaults: Mapping[str, Any] = field(default_factory=dict)
    encoding: Mapping[str, Any] = field(default_factory=dict)

    def encode(self, message: Any, destination: tuple[Any, ...], options: dict[str, Any]) -> Message:
        if isinstance(message, Message):
            return message
        given = dict(zip(("queue", "exchange"), destination, strict=False)) | options
        return Message.encode(message, **{**self.defaults, **given}, **self.encoding)

    def items(
        self, messages: Iterable[Any], destination: tuple[Any, ...], options: dict[str, Any]
    ) -> Iterator[Item]:
        for message in messages:
            try:
                yield self.encode(message, destination, options)
            except InvalidMessage as error:
                yield error


def _is_rabbit(broker: object) -> bool:
    """Tell without an import: whoever made a RabbitBroker has imported its module."""
    module = sys.modules.get("faststream.rabbit")
    return module is not None and isinstance(broker, module.RabbitBroker)
