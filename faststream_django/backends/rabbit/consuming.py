"""Consuming from RabbitMQ: a connection that is thrown away when it breaks, with a channel per subscriber."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol

from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from faststream_django.backends.base import Connector, Link
from faststream_django.backends.rabbit.connection import RabbitConnection, quieten_aiormq
from faststream_django.backends.rabbit.consuming_channel import (
    ConsumingChannel,
    NotConsumed,
    PlainConsumingChannel,
    WiredConsumingChannel,
)
from faststream_django.backends.rabbit.consuming_delivery import Delivery
from faststream_django.backends.rabbit.consuming_errors import not_consumed, words_of_end
from faststream_django.backends.rabbit.consuming_objects import SubscriberChannel, SubscriberConnection
from faststream_django.backends.rabbit.dialing import broker_from_options, dial
from faststream_django.backends.rabbit.errors import why_closed
from faststream_django.backends.rabbit.subscriptions import Subscription
from faststream_django.backends.rabbit.topology import Declaration, Topology, declare
from faststream_django.conf.entries import BrokerSettings
from faststream_django.exceptions import BrokerRefused, BrokerUnavailable

__all__ = ["ConsumingConnector", "Watcher"]

logger = logging.getLogger("faststream_django.worker")

# Seconds between two attempts to consume on a channel that was closed or refused, while the connection lives.
FIRST_DELAY, LAST_DELAY = 0.1, 5.0
# A channel that ends sooner counts as a failed attempt.
STABLE_AFTER = 1.0


class Watcher(Protocol):
    """Whoever consumes: told what comes, and how the channels fare."""

    def take(self, delivery: Delivery) -> None:
        """Handle a message."""

    def drop(self, channel: ConsumingChannel) -> None:
        """Forget what came through a channel that has ended, as far as it has not begun: it comes again."""

    def cancelled(self, subscription: Subscription) -> None:
        """Give back what has not begun: nothing more comes."""

    def consuming(self, channel: SubscriberChannel) -> None:
        """Note that all of its subscriptions are consumed."""

    def interrupted(self, channel: SubscriberChannel, reason: str) -> None:
        """Note that the broker closed the channel or cancelled a consumer; the connection lives on."""

    def refused(self, channel: SubscriberChannel, error: BrokerUnavailable) -> None:
        """Note that it cannot be consumed at the moment: BrokerRefused if that will not heal by itself."""


class ConsumingConnector(Connector["ConsumingSession"]):
    """Makes the connections of one alias that consume."""

    def __init__(
        self,
        settings: BrokerSettings,
        subscribers: SubscriberConnection,
        watcher: Watcher,
    ) -> None:
        super().__init__(settings)
        quieten_aiormq(asyncio.get_running_loop())
        self._topology = Topology(settings)
        self._subscribers = subscribers
        self._watcher = watcher

    async def connect(self, url: str) -> ConsumingSession:
        connection = await dial(
            self.settings, partial(broker_from_options, self.settings), url, role="worker"
        )
        session = ConsumingSession(connection, self._topology, self._subscribers, self._watcher)
        session.begin()
        return session


class ConsumingSession(Link):
    """One AMQP connection that consumes; a channel that ends is opened again while the connection lives."""

    def __init__(
        self,
        connection: RabbitConnection,
        topology: Topology,
        subscribers: SubscriberConnection,
        watcher: Watcher,
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._subscribers = subscribers
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        self._channels: dict[SubscriberChannel, ConsumingChannel] = {}
        self._kept: dict[SubscriberChannel, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._probing: Any = None
        connection.closing.add_done_callback(self._on_close)
        subscribers.session = self

    def begin(self) -> None:
        """Begin to declare and to consume."""
        self._in_background(self._begin())

    @property
    def is_blocked(self) -> bool:
        return self._connection.is_blocked

    @property
    def heard_at(self) -> float:
        wire = self._connection.wire
        return 0.0 if wire is None else wire.heard_at

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._end()
        self._in_background(self._connection.close(ConnectionResetError(reason)))

    async def close(self) -> None:
        self._is_stopping = True
        for task in self._kept.values():
            task.cancel()
        await self._connection.close()

    async def stop_taking(self) -> None:
        """Take no more messages on any channel; what is in hand can still be settled."""
        self._is_stopping = True
        await asyncio.gather(
            *(
                self.cancel(planned, subscription)
                for planned in tuple(self._channels)
                for subscription in tuple(planned.subscriptions)
            )
        )

    async def probe(self) -> None:
        """Return once the broker has answered a question, or the connection is gone."""
        try:
            if self._probing is None or self._probing.is_closed:
                self._probing = await self._connection.open_consuming_channel()
            await self._probing.basic_qos(prefetch_count=1)
        except (ConnectionError, AMQPError, ChannelInvalidStateError):
            return
        except asyncio.CancelledError:  # aiormq's word for a lost connection, too
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    # LiveSession

    def open(self, channel: SubscriberChannel) -> None:
        if channel in self._kept:  # the subscription joins others: they are consumed anew, together
            self._kept.pop(channel).cancel()
            self._close_channel(channel)
        self._kept[channel] = self._in_background(self._keep(channel))

    async def cancel(self, channel: SubscriberChannel, subscription: Subscription) -> None:
        live = self._channels.get(channel)
        if live is not None:
            await live.cancel(subscription)
        self._watcher.cancelled(subscription)

    async def perform(self, wanted: tuple[Declaration, ...]) -> None:
        channel = await self._connection.open_consuming_channel()
        try:
            for declaration in wanted:
                await declaration.send(channel)
        finally:
            await channel.close()

    async def _begin(self) -> None:
        try:
            await self._topology.declare(self._connection.open_declaring_channel, {})
            await self._declare_exchanges()
        except (ConnectionError, AMQPError, ChannelInvalidStateError):  # the session ends
            return
        except Exception:
            logger.exception("broker=%s declaring failed", self._topology.alias)
        for channel in self._subscribers.channels:
            if channel.subscriptions and not self._is_stopping:
                self.open(channel)

    async def _declare_exchanges(self) -> None:
        """Declare those of the publishers; that of a subscriber is declared again with its queue."""
        wanted = [
            each for exchange in self._subscribers.exchanges.values() for each in exchange.declarations()
        ]

        def failed(declaration: Declaration, error: BaseException) -> None:
            self._watcher.refused(self._subscribers.channels[0], not_consumed(None, declaration.text, error))

        await declare(self._connection.open_declaring_channel, dict.fromkeys(wanted), failed)

    async def _keep(self, planned: SubscriberChannel) -> None:
        """Consume on a channel, and on another one when it ends, as long as the session lives."""
        failures = 0
        while not self._is_over():
            since = self._loop.time()
            channel = await self._attempt(planned)
            if channel is not None and self._is_over():
                await channel.close()
            elif channel is not None:
                self._watcher.consuming(planned)
                reason = await channel.ended
                self._watcher.drop(channel)
                if not await self._is_alive():
                    return
                self._watcher.interrupted(planned, words_of_end(reason))
                await channel.close()
                if self._loop.time() - since >= STABLE_AFTER:
                    failures = 0
                    continue
            failures += 1
            await asyncio.sleep(min(FIRST_DELAY * 2.0 ** min(failures - 1, 10), LAST_DELAY))

    async def _attempt(self, planned: SubscriberChannel) -> ConsumingChannel | None:
        channel = None
        try:
            channel = self._channels[planned] = await self._open_channel(planned)
            await channel.consume()
        except NotConsumed as error:
            refusal = not_consumed(error.subscription, error.declaration, error.__cause__)
            self._watcher.refused(planned, refusal)
        except (ConnectionError, AMQPError, ChannelInvalidStateError) as error:
            if await self._is_alive():
                self._watcher.refused(planned, BrokerUnavailable(f"{type(error).__name__}: {error}"))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except Exception as error:  # noqa: BLE001 - the driver does not take a name or an argument
            reason = f"{_queues(planned)}: {type(error).__name__}: {error}"
            self._watcher.refused(planned, BrokerRefused(reason))
        else:
            return channel
        if channel is not None:
            await channel.close()
        return None

    async def _open_channel(self, planned: SubscriberChannel) -> ConsumingChannel:
        opened = await self._connection.open_consuming_channel()
        wire = self._connection.wire
        if wire is None:
            return PlainConsumingChannel(opened, planned, self._watcher.take)
        return WiredConsumingChannel(opened, planned, self._watcher.take, wire=wire)

    async def _is_alive(self) -> bool:
        """Tell whether the connection outlives the end of a channel, which may be told before its own."""
        for _ in range(3):
            await asyncio.sleep(0)
        return self._connection.is_opened and not self._is_over()

    def _is_over(self) -> bool:
        return self._is_stopping or self.closed.done()

    def _close_channel(self, planned: SubscriberChannel) -> None:
        channel = self._channels.pop(planned, None)
        if channel is not None:
            self._in_background(channel.close())

    def _in_background(self, step: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(step, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _on_close(self, closing: asyncio.Future[Any]) -> None:
        if not self.closed.done():
            self.closed.set_result(why_closed(closing))
        self._end()

    def _end(self) -> None:
        if self._subscribers.session is self:
            self._subscribers.session = None
        for channel in self._channels.values():
            channel.lose()
            self._watcher.drop(channel)
        for task in self._kept.values():
            task.cancel()


def _queues(planned: SubscriberChannel) -> str:
    return ", ".join(f"queue {each.queue.name!r}" for each in planned.subscriptions)
