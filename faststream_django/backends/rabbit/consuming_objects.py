"""A connection that consumes, as aio-pika shows it to FastStream.

It notes what each subscriber wants, and is the same for every session: a session opens the channels that are
noted here, declares and consumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from faststream_django.backends.rabbit.subscriptions import (
    Callback,
    Descriptions,
    Subscription,
    described,
    subscriber_name,
)
from faststream_django.backends.rabbit.topology import Declaration, declarations
from faststream_django.conf.entries import BrokerSettings
from faststream_django.conf.topology import Binding, ExchangeSettings, QueueSettings
from faststream_django.exceptions import BrokerUnavailable

if TYPE_CHECKING:
    from faststream.rabbit import RabbitBroker
    from faststream.rabbit.subscriber import RabbitSubscriber

__all__ = ["SubscriberChannel", "SubscriberConnection"]

REPLY_TO = "amq.rabbitmq.reply-to"


class LiveSession(Protocol):
    """The session of the moment, for what FastStream asks while it consumes."""

    def open(self, channel: SubscriberChannel) -> None:
        """Consume on one more channel."""

    async def cancel(self, channel: SubscriberChannel, subscription: Subscription) -> None:
        """Take no more messages for a subscription."""

    async def perform(self, wanted: tuple[Declaration, ...]) -> None:
        """Declare; raise what the broker answers."""


class SubscriberConnection:
    """What all subscribers of an alias want.

    `wants` tells whether a queue is consumed here, `prefetch` how many messages a subscriber holds at most
    that has no `Channel` of its own.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        wants: Callable[[str], bool],
        prefetch: Callable[[RabbitSubscriber], int],
    ) -> None:
        self.settings = settings
        self.channels: list[SubscriberChannel] = []
        self.exchanges: dict[str, SubscriberExchange] = {}
        self.session: LiveSession | None = None
        self.is_started = False
        self.is_closed = False
        self.connected = asyncio.Event()  # FastStream's ping() asks for it
        self._wants = wants
        self._prefetch = prefetch
        self._queues = Descriptions(settings)
        self._broker: RabbitBroker

    async def serve(self, broker: RabbitBroker) -> None:
        """Have the broker start here instead of at its URL: it notes what its subscribers want."""
        self._broker = broker

        async def connect() -> Any:
            broker.config.connect(self)
            broker._channel = await broker.config.channel_manager.get_channel()  # noqa: SLF001
            return self

        # FastStream has no public way to bring a connection: its test broker replaces this as well.
        broker._connect = connect  # type: ignore[method-assign]  # noqa: SLF001
        await broker.start()
        self.is_started = True

    @property
    def subscriptions(self) -> list[Subscription]:
        return [subscription for channel in self.channels for subscription in channel.subscriptions]

    async def channel(
        self,
        channel_number: int | None = None,  # noqa: ARG002
        *,
        publisher_confirms: bool = True,  # noqa: ARG002
        on_return_raises: bool = False,  # noqa: ARG002
    ) -> SubscriberChannel:
        channel = SubscriberChannel(self)
        self.channels.append(channel)
        return channel

    async def close(self, exc: BaseException | None = None) -> None:  # noqa: ARG002
        self.is_closed = True

    async def subscribe(self, queue: SubscriberQueue, callback: Any, *, no_ack: bool, arguments: Any) -> str:
        """Note a subscription, on a channel of its own or on the `Channel` that its subscriber was given."""
        subscriber = callback.__self__
        if not self._wants(queue.name):
            return ""
        description = self._queues.agreed(
            queue.description, subscriber_name(subscriber), is_passive=queue.is_passive
        )
        channel = await self._channel_of(subscriber)
        subscription = Subscription(
            subscriber=subscriber,
            queue=description,
            consume=callback,
            acks_first=no_ack,
            arguments=arguments or {},
            declare=lambda: queue.declarations(description),
        )
        channel.subscriptions.append(subscription)
        if self.is_started:
            self._current().open(channel)
        return subscription.tag

    async def _channel_of(self, subscriber: RabbitSubscriber) -> SubscriberChannel:
        if subscriber.channel is None:
            channel = await self.channel()
        else:
            # What FastStream passes to channel() below.
            manager: Any = self._broker.config.channel_manager
            channel = await manager.get_channel(subscriber.channel)
        channel.prefetch_count = channel.prefetch_count or self._prefetch(subscriber)
        return channel

    async def perform(self, wanted: tuple[Declaration, ...]) -> None:
        """Declare now what is asked for while it consumes; before that it is only noted."""
        if self.is_started:
            await self._current().perform(wanted)

    def _current(self) -> LiveSession:
        if self.session is None:
            raise BrokerUnavailable("there is no connection at the moment")
        return self.session


class SubscriberChannel:
    """A channel as aio-pika shows it. Each session opens one for it, if anything is consumed there."""

    def __init__(self, connection: SubscriberConnection) -> None:
        self._connection = connection
        self.prefetch_count = 0
        self.is_prefetch_shared = False
        self.subscriptions: list[Subscription] = []
        self.is_closed = False

    @property
    def default_exchange(self) -> SubscriberExchange:
        return SubscriberExchange(self._connection, ExchangeSettings(name=""))

    async def set_qos(self, prefetch_count: int = 0, global_: bool = False) -> None:  # noqa: FBT001, FBT002
        self.prefetch_count = prefetch_count
        self.is_prefetch_shared = global_

    async def declare_queue(self, name: str = "", **declaration: Any) -> SubscriberQueue:
        queue = SubscriberQueue(self, self._connection, name, declaration)
        if name != REPLY_TO:
            await self._connection.perform(queue.declarations(queue.description))
        return queue

    async def declare_exchange(
        self,
        name: str,
        type: str = "direct",  # noqa: A002
        *,
        passive: bool = False,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **client_options: Any,  # noqa: ARG002
    ) -> SubscriberExchange:
        settings = self._connection.settings
        description = ExchangeSettings(
            name=name,
            type=type,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments or {},
        )
        if description == ExchangeSettings(name=name):
            description = next((each for each in settings.exchanges if each.name == name), description)
        passive = passive or settings.declare is not True
        exchange = SubscriberExchange(self._connection, description, is_passive=passive)
        if self._connection.is_started:
            await self._connection.perform(exchange.declarations())
        else:
            self._connection.exchanges[name] = exchange
        return exchange

    async def close(self, exc: BaseException | None = None) -> None:  # noqa: ARG002
        self.is_closed = True


class SubscriberQueue:
    """A queue as aio-pika shows it, with what it is bound to."""

    def __init__(
        self,
        channel: SubscriberChannel,
        connection: SubscriberConnection,
        name: str,
        declaration: Mapping[str, Any],
    ) -> None:
        self.channel = channel
        self.name = name
        self.description = described(name, declaration)
        self.is_passive = bool(declaration.get("passive")) or connection.settings.declare is not True
        self._connection = connection
        self._bindings: list[Binding] = []
        self._exchanges: list[SubscriberExchange] = []

    def declarations(self, description: QueueSettings) -> tuple[Declaration, ...]:
        """Return what to declare, exchanges first, for the queue as it is described in the end."""
        bindings = () if self.is_passive else tuple(self._bindings)
        queue = replace(description, bindings=(*description.bindings, *bindings))
        exchanges = [each for exchange in self._exchanges for each in exchange.declarations()]
        return (*exchanges, *declarations([queue], (), passive=self.is_passive))

    async def bind(
        self,
        exchange: SubscriberExchange,
        routing_key: str | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        **client_options: Any,  # noqa: ARG002
    ) -> None:
        key = self.name if routing_key is None else routing_key
        binding = Binding(source=exchange.name, routing_key=key, arguments=arguments or {})
        self._bindings.append(binding)
        self._exchanges.append(exchange)
        bound = QueueSettings(name=self.name, bindings=(binding,))
        await self._connection.perform(tuple(declarations([bound], ()))[1:])

    async def consume(
        self,
        callback: Callback,
        no_ack: bool = False,  # noqa: FBT001, FBT002
        arguments: Mapping[str, Any] | None = None,
        **client_options: Any,  # noqa: ARG002
    ) -> str:
        return await self._connection.subscribe(self, callback, no_ack=no_ack, arguments=arguments)

    async def cancel(self, consumer_tag: str, **client_options: Any) -> None:  # noqa: ARG002
        """Consume no more for this subscription, in no session."""
        for channel in self._connection.channels:
            for subscription in tuple(channel.subscriptions):
                if subscription.tag == consumer_tag:
                    channel.subscriptions.remove(subscription)
                    if self._connection.session is not None:
                        await self._connection.session.cancel(channel, subscription)


class SubscriberExchange:
    """An exchange as aio-pika shows it, with what it is bound to."""

    def __init__(
        self, connection: SubscriberConnection, description: ExchangeSettings, *, is_passive: bool = False
    ) -> None:
        self.name = description.name
        self._connection = connection
        self._description = description
        self._is_passive = is_passive
        self._parents: list[SubscriberExchange] = []

    def declarations(self) -> tuple[Declaration, ...]:
        parents = [each for parent in self._parents for each in parent.declarations()]
        return (*parents, *declarations((), [self._description], passive=self._is_passive))

    async def bind(
        self,
        exchange: SubscriberExchange,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        **client_options: Any,  # noqa: ARG002
    ) -> None:
        binding = Binding(source=exchange.name, routing_key=routing_key, arguments=arguments or {})
        self._parents.append(exchange)
        self._description = replace(self._description, bindings=(*self._description.bindings, binding))
        await self._connection.perform(self.declarations()[-1:])
