"""Any FastStream broker from synchronous code, without Django settings: Flask, scripts, notebooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from faststream_django.backends.base import Backend
from faststream_django.bulk import Item
from faststream_django.conf import BrokerSettings
from faststream_django.connection import Connection
from faststream_django.exceptions import InvalidMessage
from faststream_django.messages import Message
from faststream_django.native import NativeConnection
from faststream_django.outcomes import conclude_bulk

if TYPE_CHECKING:
    from faststream._internal.broker import BrokerUsecase
    from faststream.rabbit import RabbitBroker

    Broker = BrokerUsecase[Any, Any, Any]

__all__ = ["SyncBroker"]

ALIAS = "SyncBroker"


class SyncBroker:
    """Publishes through a FastStream broker from any thread; a running event loop does not matter.

    Takes a broker or a function that makes one. The broker is not started: its subscribers do not run.
    With RabbitMQ every publish is persistent, mandatory and confirmed, with the errors and guarantees of
    faststream_django.publish(), and it survives a fork. Another kind of broker keeps the semantics of
    its own ``publish()``, within our deadline; where it must survive a fork, pass the function.

    Times are in seconds. ``timeout`` is the default for each publish, ``connect_timeout`` limits an
    attempt to connect, ``shutdown_timeout`` the wait for what is in flight on stop() and at exit.
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
        self._connection: Connection | NativeConnection | None = None
        self._encoding: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}

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
        self._connect().start()

    def stop(self, timeout: float | None = None) -> None:
        """Settle what is in flight and close; the next publish connects again."""
        if self._connection is not None:
            self._connection.stop(timeout)

    def publish(self, message: Any, *destination: Any, timeout: float | None = None, **options: Any) -> Any:
        """Publish with the arguments of the broker's own ``publish()``; raise PublishError within `timeout`.

        With RabbitMQ return the message id once the message is confirmed; otherwise return what the
        broker's own ``publish()`` returns.
        """
        connection = self._connect()
        if isinstance(connection, NativeConnection):
            return connection.publish(message, *destination, timeout=timeout, **options)
        encoded = self._encode(message, destination, options)
        connection.send(encoded, timeout)
        return encoded.message_id

    def publish_many(
        self,
        messages: Iterable[Any],
        *destination: Any,
        timeout: float | None = None,
        **options: Any,
    ) -> int:
        """See faststream_django.publish_many(); RabbitMQ only."""
        connection = self._connect()
        if isinstance(connection, NativeConnection):
            raise TypeError("publish_many() needs a RabbitBroker; publish one by one instead.")
        items = self._items(messages, destination, options)
        return conclude_bulk(connection.send_many(items, timeout), ALIAS)

    def _connect(self) -> Connection | NativeConnection:
        if self._connection is None:
            self._connection = self._make_connection()
        return self._connection

    def _make_connection(self) -> Connection | NativeConnection:
        broker: Any = self._given() if callable(self._given) else self._given
        if not _is_rabbit(broker):
            return NativeConnection(self._given, **self._limits)
        options = broker._connection_kwargs  # noqa: SLF001 - FastStream's parsed URL has no other name
        settings = BrokerSettings(alias=ALIAS, urls=(options["url"],), backend="", **self._limits)
        self._encoding = {
            "codec": broker.config.broker_codec,
            "max_bytes": settings.max_message_bytes,
            "broker": ALIAS,
        }
        self._defaults = {"app_id": broker.config.app_id}
        return Connection(settings, lambda: _rabbit_backend(settings, broker))

    def _encode(self, message: Any, destination: tuple[Any, ...], options: dict[str, Any]) -> Message:
        if isinstance(message, Message):
            return message
        arguments = self._defaults | dict(zip(("queue", "exchange"), destination, strict=False)) | options
        return Message.encode(message, **arguments, **self._encoding)

    def _items(
        self, messages: Iterable[Any], destination: tuple[Any, ...], options: dict[str, Any]
    ) -> Iterator[Item]:
        for message in messages:
            try:
                yield self._encode(message, destination, options)
            except InvalidMessage as error:
                yield error


def _is_rabbit(broker: object) -> bool:
    """Tell without an import: whoever made a RabbitBroker has imported its module."""
    module = sys.modules.get("faststream.rabbit")
    return module is not None and isinstance(broker, module.RabbitBroker)


def _rabbit_backend(settings: BrokerSettings, broker: RabbitBroker) -> Backend:
    from faststream_django.backends.rabbit import RabbitBackend

    return RabbitBackend(settings, make_broker=lambda _: broker)
