"""RabbitMQ over AMQP 0-9-1: FastStream's middlewares and codec, aiormq's connection.

FastStream's own connection is not used: it is robust, which means that a deleted exchange can wedge
every publish after a reconnect, and its one shared channel lets a bad message fail its neighbours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.connection import Connection
from aiormq.connection import exception_by_code as connection_error
from faststream.rabbit import RabbitBroker, RabbitExchange
from faststream.rabbit.response import RabbitPublishCommand
from faststream.response.publish_type import PublishType
from pamqp.commands import Connection as ConnectionClass
from yarl import URL

from faststream_django.backends.base import Backend, Delivery, NotSent, Session, Transmit
from faststream_django.backends.rabbit_errors import connect_error, explained, publish_error
from faststream_django.backends.rabbit_properties import amqp_properties
from faststream_django.backends.rabbit_topology import declare_topology
from faststream_django.conf import BrokerSettings
from faststream_django.exceptions import InvalidMessage, PublishError
from faststream_django.messages import Message

__all__ = ["RabbitBackend", "RabbitSession"]


class RabbitBackend(Backend):
    """Connects with aiormq and passes messages through the middlewares of a FastStream broker.

    The FastStream broker is never connected or started: it gives its middlewares, its codec and its
    security. Without `make_broker` it is built from the settings' OPTIONS.
    """

    def __init__(
        self, settings: BrokerSettings, make_broker: Callable[[str], RabbitBroker] | None = None
    ) -> None:
        super().__init__(settings)
        self._make_broker = make_broker or self._broker_from_options
        self._broker: RabbitBroker | None = None

    @property
    def broker(self) -> RabbitBroker:
        if self._broker is None:
            self._broker = self._make_broker(self.settings.urls[0])
        return self._broker

    def _broker_from_options(self, url: str) -> RabbitBroker:
        options = {"logger": logging.getLogger("faststream_django"), **self.settings.options}
        return RabbitBroker(url, **options)

    async def process(self, delivery: Delivery, transmit: Transmit) -> None:
        broker = self.broker
        if not broker.middlewares:
            await transmit(delivery.message)
            return
        command = _command(delivery.message)
        producer: Any = _Producer(delivery, transmit)  # of ProducerProto, publish() alone is used here
        await broker._basic_publish(command, producer=producer)  # noqa: SLF001

    async def connect(self, url: str) -> Session:
        # The broker is made for its URL and security options; see FastStream's build_url().
        options = self._make_broker(url)._connection_kwargs  # noqa: SLF001
        target = URL(options["url"]).update_query(
            heartbeat=str(self.settings.heartbeat), name=_connection_name(self.settings.alias)
        )
        connection = _Connection(target, context=options["ssl_context"])
        try:
            await connection.connect()
            session = RabbitSession(connection, self.settings)
            await session.open()
        except Exception as error:
            await _close_quietly(connection)
            raise connect_error(error) from error
        except BaseException:
            await _close_quietly(connection)
            raise
        return session


class _Connection(Connection):
    """aiormq's connection, with the broker's own words when it refuses to open one."""

    @staticmethod
    async def _rpc(request: Any, *args: Any, **kwargs: Any) -> Any:
        # aiormq answers a connection.close (unknown vhost, connection limit) with an InvalidFrameError
        # that does not hold the reply text.
        receiver = kwargs["frame_receiver"]
        kwargs["frame_receiver"] = _Watched(receiver)
        return await Connection._rpc(request, *args, **kwargs)  # noqa: SLF001


class _Watched:
    """Raises what a connection.close says, where aiormq expects the answer to a handshake method."""

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver

    async def get_frame(self) -> Any:
        received = await self._receiver.get_frame()
        frame = received[2]
        if isinstance(frame, ConnectionClass.Close) and frame.reply_code != 403:
            raise connection_error(frame)
        return received


class RabbitSession(Session):
    """One AMQP connection with one channel for everybody and one for what has yet to prove itself."""

    def __init__(self, connection: AbstractConnection, settings: BrokerSettings) -> None:
        self._connection = connection
        self._settings = settings
        self.closed = asyncio.get_running_loop().create_future()
        connection.closing.add_done_callback(self._on_close)
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        # The first message for an exchange travels on a channel of its own, alone: a missing exchange or a
        # missing permission closes that channel and nobody else's.
        self._trusted: set[str] = set()
        self._proving = asyncio.Lock()
        self._proving_channel: AbstractChannel | None = None
        self._in_flight: dict[str, asyncio.Event] = {}
        self._exchanges_in_flight: dict[str, int] = {}
        self._topology_errors: dict[str, str] = {}

    async def open(self) -> None:
        self._topology_errors = await declare_topology(self._connection, self._settings)
        await self._shared_channel()

    def trusts(self, message: Message) -> bool:
        return message.exchange in self._trusted

    async def transmit(self, message: Message, delivery: Delivery) -> None:
        await self._unblocked(delivery)
        if self.trusts(message):
            await self._transmit_shared(message, delivery)
            return
        async with self._proving:
            if not self.trusts(message):
                await self._prove(message, delivery)
                return
        await self._transmit_shared(message, delivery)

    async def close(self) -> None:
        await self._connection.close()

    async def _prove(self, message: Message, delivery: Delivery) -> None:
        channel = self._proving_channel
        if channel is None or channel.is_closed:
            channel = self._proving_channel = await self._open_channel()
        await self._publish(channel, message, delivery, alone=True)
        self._trusted.add(message.exchange)

    async def _transmit_shared(self, message: Message, delivery: Delivery) -> None:
        # aiormq finds the message of a basic.return by its id: two with one id would swap their verdicts.
        while (earlier := self._in_flight.get(message.message_id)) is not None:
            await earlier.wait()
        done = self._in_flight[message.message_id] = asyncio.Event()
        exchange = message.exchange
        self._exchanges_in_flight[exchange] = self._exchanges_in_flight.get(exchange, 0) + 1
        try:
            channel = await self._shared_channel()
            alone = self._exchanges_in_flight[exchange] == 1
            await self._publish(channel, message, delivery, alone=alone)
        except PublishError:
            if self._channel is not None and self._channel.is_closed:
                self._trusted.discard(exchange)
            raise
        finally:
            del self._in_flight[message.message_id]
            done.set()
            self._exchanges_in_flight[exchange] -= 1
            if not self._exchanges_in_flight[exchange]:
                del self._exchanges_in_flight[exchange]

    async def _publish(
        self,
        channel: AbstractChannel,
        message: Message,
        delivery: Delivery,
        *,
        alone: bool,
    ) -> None:
        properties = amqp_properties(message)
        delivery.handed_over = True
        try:
            await channel.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=properties,
                mandatory=message.mandatory,
            )
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise publish_error(error, delivery, message, alone=alone) from error
        except Exception as error:
            verdict = publish_error(error, delivery, message, alone=alone)
            raise explained(verdict, message, self._topology_errors) from error

    async def _unblocked(self, delivery: Delivery) -> None:
        if _is_ready(self._connection):
            return
        delivery.blocked = True
        ready = asyncio.ensure_future(self._connection.ready())
        waiting: set[asyncio.Future[Any]] = {ready, self.closed}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        delivery.blocked = False
        if self.closed.done():
            raise NotSent(self.closed.result())

    async def _shared_channel(self) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            async with self._opening:
                if self._channel is None or self._channel.is_closed:
                    self._channel = await self._open_channel()
        return self._channel

    async def _open_channel(self) -> AbstractChannel:
        if self.closed.done() or self._connection.is_closed:
            raise NotSent("the connection is closed")
        try:
            return await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotSent("the connection was lost while a channel was opened") from error
        except Exception as error:
            raise NotSent(f"no channel: {type(error).__name__}") from error

    def _on_close(self, closing: asyncio.Future[Any]) -> None:
        if self.closed.done():
            return
        if closing.cancelled():
            reason = "no frame from the broker for too long (heartbeat)"
        else:
            error = closing.exception()
            reason = f"{type(error).__name__}: {error}" if error else "closed"
        self.closed.set_result(reason)


class _Producer:
    """The end of FastStream's chain of middlewares: hands what they made of the message to us."""

    def __init__(self, delivery: Delivery, transmit: Transmit) -> None:
        self._delivery = delivery
        self._transmit = transmit

    async def publish(self, cmd: RabbitPublishCommand) -> None:
        await self._transmit(_message(cmd, self._delivery))


def _command(message: Message) -> RabbitPublishCommand:
    return RabbitPublishCommand(
        message.body,
        _publish_type=PublishType.PUBLISH,
        routing_key=message.routing_key,
        exchange=RabbitExchange(message.exchange) if message.exchange else None,
        mandatory=message.mandatory,
        headers=dict(message.headers),  # middlewares write into it
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        persist=message.persist,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        expiration=message.expiration,
        priority=message.priority,
        timestamp=message.timestamp,
        message_id=message.message_id,
        message_type=message.message_type,
    )


def _message(command: RabbitPublishCommand, delivery: Delivery) -> Message:
    """Validate again what the middlewares may have changed: it must not hurt other messages."""
    options: dict[str, Any] = dict(command.message_options)
    options.pop("app_id", None)
    if options.pop("user_id", None) is not None:
        raise InvalidMessage(
            "A publish middleware set user_id: RabbitMQ closes the channel of everybody if it is not the "
            "user of the connection. Use a header instead.",
            message_id=delivery.message.message_id,
            broker=delivery.broker,
        )
    return Message.encode(
        command.body,
        exchange=command.exchange.name,
        routing_key=command.destination,
        headers=command.headers,
        correlation_id=command.correlation_id,
        reply_to=command.reply_to or None,
        mandatory=command.publish_options.get("mandatory"),
        broker=delivery.broker,
        max_bytes=2**27,
        **options,
    )


def _connection_name(alias: str) -> str:
    """What `rabbitmqctl list_connections` and the management page show."""
    return f"faststream_django {alias} pid={os.getpid()} host={socket.gethostname()}"


def _is_ready(connection: AbstractConnection) -> bool:
    """Tell whether ready() would return at once; aiormq has no attribute for `connection.blocked`."""
    ready = connection.ready()
    try:
        ready.send(None)
    except StopIteration:
        return True
    ready.close()
    return False


async def _close_quietly(connection: Any) -> None:
    try:
        await asyncio.wait_for(connection.close(), 1.0)
    except Exception:  # noqa: BLE001 - it is thrown away
        return
