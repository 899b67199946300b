"""FastStream's producer for the code of a worker: what it publishes goes through the alias's publisher.

So each `@publisher`, ``broker.publish()`` and returned value is confirmed before the message that it came
from is acknowledged, survives reconnects, and ends within the TIMEOUT of the alias.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aio_pika import IncomingMessage
from aio_pika import Message as DriverMessage
from faststream._internal.parser import CodecProto, DefaultCodec
from faststream.rabbit.publisher.producer import AioPikaFastProducer
from faststream.rabbit.response import RabbitPublishCommand
from faststream.response.publish_type import PublishType

from faststream_django.backends.rabbit.incoming import incoming
from faststream_django.exceptions import InvalidMessage
from faststream_django.messages.message import Message
from faststream_django.messages.reply import failure_of
from faststream_django.registry import brokers
from faststream_django.worker.replies import announce_published, logger, send_reply, tell_failure

if TYPE_CHECKING:
    from fast_depends.library.serializer import SerializerProto
    from faststream.rabbit import RabbitBroker

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["WorkerProducer"]


class WorkerProducer(AioPikaFastProducer):
    """Publishes for a FastStream broker whose publish middlewares have seen what it gets.

    Everything is persistent. FastStream's default is ``persist=False``, which cannot be told from the same
    word in a `@publisher`; so only a reply is transient, where a handler returns
    ``RabbitResponse(..., persist=False)``. ``mandatory=False`` is respected.
    """

    def __init__(self, settings: BrokerSettings, broker: RabbitBroker) -> None:
        self._settings = settings
        self._broker = broker
        config: Any = broker.config
        # FastStream's own producer has been given what reads the replies to broker.request().
        self._parser = config.producer._parser  # noqa: SLF001
        codec = config.broker_codec
        self._decoder = config.producer._decoder if codec is None else codec.decode  # noqa: SLF001
        self._id_generator = config.id_generator
        self.serializer: SerializerProto | None = None
        self.codec: CodecProto = codec or DefaultCodec()

    def connect(self, serializer: SerializerProto | None = None, codec: CodecProto | None = None) -> None:
        """Note what bodies are encoded with. The connection is the alias's, and connects by itself."""
        self.serializer = serializer
        self.codec = codec or DefaultCodec()

    def disconnect(self) -> None:
        """Do nothing: the connection is not only ours."""

    async def publish(self, cmd: RabbitPublishCommand) -> None:
        """Return once the broker has confirmed the message; raise PublishError otherwise.

        For a reply nothing is raised: the work that it is about is done.
        """
        if cmd.publish_type is PublishType.REPLY:
            await self._reply(cmd)
            return
        message = await self._encode(cmd, persist=True)
        await brokers[self._settings.alias].asend(message, cmd.timeout, processed=True)
        await announce_published(message, self._settings.alias)

    async def request(self, cmd: RabbitPublishCommand) -> IncomingMessage:
        """Return the reply; raise PublishError otherwise. See faststream_django.arequest()."""
        alias = self._settings.alias
        given = await self._encode(cmd, persist=bool(cmd.message_options.get("persist")))
        message = replace(given, correlation_id=str(uuid4()), mandatory=True)
        reply = await brokers[alias].arequest(message, cmd.timeout, processed=True)
        await announce_published(message, alias)
        failure = failure_of(reply.message, message, alias)
        if failure is not None:
            raise failure
        return incoming(replace(reply.message, correlation_id=given.correlation_id))

    async def _reply(self, cmd: RabbitPublishCommand) -> None:
        alias, queue = self._settings.alias, self._queue_of_handler()
        try:
            reply = await self._encode(cmd, persist=cmd.message_options.get("persist", True))
        except Exception as error:  # noqa: BLE001 - of a codec, or of what the handler returned
            logger.warning(
                "broker=%s queue=%r correlation_id=%r state=reply-not-encoded reason=%r",
                alias,
                queue,
                cmd.correlation_id,
                str(error) if isinstance(error, InvalidMessage) else type(error).__name__,
            )
            reply_to = f"{cmd.destination}|{cmd.exchange.name}"
            await tell_failure(alias, reply_to, error, correlation_id=cmd.correlation_id, queue=queue)
        else:
            await send_reply(alias, reply, queue=queue, timeout=cmd.timeout)

    def _queue_of_handler(self) -> str:
        context = self._broker.context.get("log_context") or {}
        return str(context.get("queue", ""))

    async def _encode(self, cmd: RabbitPublishCommand, *, persist: bool) -> Message:
        given: Any = cmd.body
        options: dict[str, Any] = dict(cmd.message_options)
        options.setdefault("correlation_id", cmd.correlation_id)
        options.setdefault("reply_to", cmd.reply_to)
        options.setdefault("headers", cmd.headers)
        if isinstance(given, DriverMessage):  # FastStream takes nothing but its body from elsewhere
            body = given.body
            options |= _options_of(given)
        else:
            body, content_type = await self.codec.encode(given, self.serializer)
            options["content_type"] = options.get("content_type") or content_type
        self._refuse(options.pop("user_id", None), cmd)
        correlation_id = options.pop("correlation_id") or self._id_generator()
        return Message.encode(
            body,
            exchange=cmd.exchange.name,
            routing_key=cmd.destination,
            correlation_id=correlation_id,
            **(options | {"persist": persist}),
            mandatory=cmd.publish_options.get("mandatory"),
            broker=self._settings.alias,
            max_bytes=self._settings.max_message_bytes,
        )

    def _refuse(self, user_id: object, cmd: RabbitPublishCommand) -> None:
        """Refuse what RabbitMQ closes the channel, or the whole connection, for."""
        if user_id is not None:
            text = "user_id is set, and RabbitMQ closes the channel if it is not the user of the connection"
        elif cmd.publish_options.get("immediate"):
            text = "immediate is set, which RabbitMQ has not known since 3.0"
        else:
            return
        raise InvalidMessage(
            f"A message for {cmd.destination!r} was not published: {text}. Leave it out.",
            broker=self._settings.alias,
        )


def _options_of(message: DriverMessage) -> dict[str, Any]:
    """Return the properties that a message of aio-pika has."""
    given = {
        "headers": message.headers,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "priority": message.priority,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "expiration": message.expiration,
        "message_id": message.message_id,
        "timestamp": message.timestamp,
        "message_type": message.type,
        "user_id": message.user_id,
        "app_id": message.app_id,
    }
    return {name: value for name, value in given.items() if value}
