"""RabbitMQ over AMQP 0-9-1: FastStream's middlewares and codec, aiormq's connection.

FastStream's own connection is not used: it is robust, which means that a deleted exchange can wedge
every publish after a reconnect, and its one shared channel lets a bad message fail its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from aio_pika import IncomingMessage
from faststream.rabbit import RabbitBroker, RabbitExchange
from faststream.rabbit.response import RabbitPublishCommand
from faststream.response.publish_type import PublishType

from faststream_django.backends.base import Backend, Publication, Request, Session, Transmit
from faststream_django.backends.operating import OperatorSession
from faststream_django.backends.rabbit.connection import quieten_aiormq
from faststream_django.backends.rabbit.dialing import broker_from_options, dial
from faststream_django.backends.rabbit.incoming import incoming
from faststream_django.backends.rabbit.operating import RabbitOperatorSession
from faststream_django.backends.rabbit.session import RabbitSession
from faststream_django.backends.rabbit.topology import Topology
from faststream_django.conf.entries import BrokerSettings
from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.message import Message
from faststream_django.messages.reply import Reply, failure_of, undecodable

__all__ = ["RabbitBackend"]


class RabbitBackend(Backend):
    """Connects with aiormq and passes messages through the middlewares of a FastStream broker.

    The FastStream broker is never connected or started: it gives its middlewares, its codec and its
    security. Without `make_broker` it is built from the settings' OPTIONS.
    """

    def __init__(
        self, settings: BrokerSettings, make_broker: Callable[[str], RabbitBroker] | None = None
    ) -> None:
        super().__init__(settings)
        quieten_aiormq()
        self._make_broker = make_broker or partial(broker_from_options, settings)
        self._broker: RabbitBroker | None = None
        self._topology = Topology(settings)

    @property
    def broker(self) -> RabbitBroker:
        if self._broker is None:
            self._broker = self._make_broker(next(iter(self.settings.urls), "amqp://"))
        return self._broker

    @property
    def is_direct(self) -> bool:
        return not self.broker.middlewares

    @property
    def is_direct_for_requests(self) -> bool:
        config = self.broker.config
        return self.is_direct and not (config.broker_parser or config.broker_decoder or config.broker_codec)

    async def process(self, publication: Publication, transmit: Transmit) -> None:
        broker = self.broker
        if isinstance(publication, Request):
            await self._process_request(publication, transmit)
            return
        command = _command(publication.message)
        producer: Any = _Producer(publication, transmit)  # of ProducerProto, publish() alone is used here
        await broker._basic_publish(command, producer=producer)  # noqa: SLF001

    async def _process_request(self, request: Request, transmit: Transmit) -> None:
        broker = self.broker
        producer: Any = _Requester(request, transmit, broker)
        command = _command(request.message, PublishType.REQUEST)
        response = await broker._basic_request(command, producer=producer)  # noqa: SLF001
        if response is None:  # a middleware kept it from being sent, or kept its reply
            return
        try:
            value = await response.decode()
        except Exception as error:
            raise undecodable(producer.reply, request.message, request.broker) from error
        request.reply = Reply(producer.reply, value)

    async def connect(self, url: str) -> Session:
        connection = await dial(self.settings, self._make_broker, url)
        session = RabbitSession(connection, self._topology, self.settings.connect_timeout)
        session.begin_to_declare()
        return session

    async def operate(self, url: str) -> OperatorSession:
        connection = await dial(self.settings, self._make_broker, url, role="operator")
        return RabbitOperatorSession(connection, self.settings.timeout)


class _Producer:
    """The end of FastStream's chain of middlewares: hands what they made of the message to us."""

    def __init__(self, publication: Publication, transmit: Transmit) -> None:
        self._publication = publication
        self._transmit = transmit

    async def publish(self, cmd: RabbitPublishCommand) -> None:
        await self._transmit(_message(cmd, self._publication))


class _Requester:
    """The end of FastStream's chain for a request: hands it to us, and its reply to FastStream."""

    def __init__(self, request: Request, transmit: Transmit, broker: RabbitBroker) -> None:
        self.reply = request.message
        self._request = request
        self._transmit = transmit
        producer, codec = broker.config.producer, broker.config.broker_codec
        self._parser = producer._parser  # noqa: SLF001 - where FastStream looks for them
        self._decoder = producer._decoder if codec is None else codec.decode  # noqa: SLF001

    async def request(self, cmd: RabbitPublishCommand) -> IncomingMessage:
        request = self._request
        message = replace(_message(cmd, request), correlation_id=request.message.correlation_id)
        await self._transmit(message)
        # Its caller has it only once it is read.
        reply, request.reply = cast("Reply", request.reply), None
        failure = failure_of(reply.message, request.message, request.broker)
        if failure is not None:
            raise failure
        self.reply = reply.message
        return incoming(self.reply)


def _command(message: Message, publish_type: PublishType = PublishType.PUBLISH) -> RabbitPublishCommand:
    return RabbitPublishCommand(
        message.body,
        _publish_type=publish_type,
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
        app_id=message.app_id,
    )


def _message(command: RabbitPublishCommand, publication: Publication) -> Message:
    """Validate again what the middlewares may have changed: it must not hurt other messages."""
    options: dict[str, Any] = dict(command.message_options)
    if options.pop("user_id", None) is not None:
        raise InvalidMessage(
            "A publish middleware set user_id: RabbitMQ closes the channel of everybody if it is not the "
            "user of the connection. Use a header instead.",
            message_id=publication.message.message_id,
            broker=publication.broker,
        )
    return Message.encode(
        command.body,
        exchange=command.exchange.name,
        routing_key=command.destination,
        headers=command.headers,
        correlation_id=command.correlation_id,
        reply_to=command.reply_to or None,
        mandatory=command.publish_options.get("mandatory"),
        broker=publication.broker,
        max_bytes=2**27,
        **options,
    )
