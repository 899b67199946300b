"""Consumes from the broker of one alias, for as long as it is wanted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from faststream_django.connection.supervisor import Supervisor
from faststream_django.exceptions import BrokerRefused, BrokerUnavailable
from faststream_django.worker.broker import build_broker, is_threaded, prefetch_of
from faststream_django.worker.handling import Handling
from faststream_django.worker.source import queue_name
from faststream_django.worker.threads import HandlerThreads

if TYPE_CHECKING:
    from faststream.rabbit import RabbitRouter
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.backends.rabbit.consuming import ConsumingSession
    from faststream_django.backends.rabbit.consuming_channel import ConsumingChannel
    from faststream_django.backends.rabbit.consuming_delivery import Delivery
    from faststream_django.backends.rabbit.consuming_objects import SubscriberChannel, SubscriberConnection
    from faststream_django.backends.rabbit.subscriptions import Subscription
    from faststream_django.conf.entries import BrokerSettings

__all__ = ["Consumer"]

logger = logging.getLogger("faststream_django.worker")

CLOSE_GRACE = 0.3
"""Seconds to close the connection, or to cancel coroutines, once the handlers had their time."""


class Consumer:
    """Consumes what the subscribers of these routers want, on a connection of its own.

    It connects again by itself when the connection is lost. `wants` tells which queues are consumed, of
    those that have subscribers. Belongs to the event loop that start() is called on.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        routers: Iterable[RabbitRouter],
        threads: HandlerThreads | None = None,
        *,
        wants: Callable[[str], bool] = lambda queue: True,  # noqa: ARG005
    ) -> None:
        self.settings = settings
        self._own_threads = None if threads else HandlerThreads(settings.worker.concurrency)
        self.broker = build_broker(settings, routers, threads or self._own_threads)
        """FastStream's broker, which its subscribers belong to; never connected by itself."""
        self._wants = wants
        self._stopping: asyncio.Task[None] | None = None
        self._consuming: set[SubscriberChannel] = set()
        self._told: dict[SubscriberChannel, str] = {}
        self._started: asyncio.Future[None] | None = None
        self._handling: Handling
        self._subscribers: SubscriberConnection | None = None
        self._supervisor: Supervisor[ConsumingSession] | None = None

    @property
    def queues(self) -> list[str]:
        """The names of the queues that are consumed."""
        names = {queue_name(cast("RabbitSubscriber", each)) for each in self.broker.subscribers if each.calls}
        return sorted(filter(self._wants, names))

    @property
    def is_consuming(self) -> bool:
        """Whether the broker has confirmed every consumer, on a connection that is open."""
        supervisor, subscribers = self._supervisor, self._subscribers
        if supervisor is None or subscribers is None or supervisor.current is None or self._stopping:
            return False
        return all(channel in self._consuming for channel in subscribers.channels if channel.subscriptions)

    @property
    def handled(self) -> int:
        """How many handlers have ended."""
        return self._handling.handled if self._subscribers is not None else 0

    async def start(self) -> None:
        """Consume; return once the broker has confirmed every consumer. Waits for a broker that is away.

        Raises BrokerRefused if it does not want us (credentials, virtual host, TLS) or refuses a queue, and
        InvalidSubscriber if a subscriber does not fit the settings or another one.
        """
        from faststream_django.backends.rabbit.consuming import ConsumingConnector
        from faststream_django.backends.rabbit.consuming_objects import SubscriberConnection
        from faststream_django.worker.failures import tell_missing_queues

        self._handling = Handling(self.settings.worker.concurrency, lambda each: is_threaded(each.subscriber))
        self._subscribers = SubscriberConnection(
            self.settings, self._wants, lambda subscriber: prefetch_of(subscriber, self.settings.worker)
        )
        await self._subscribers.serve(self.broker)
        self._started = asyncio.get_running_loop().create_future()
        connector = ConsumingConnector(self.settings, self._subscribers, self)
        self._supervisor = Supervisor(connector, is_always_wanted=True, logger=logger)
        self._supervisor.request_session(self, float("inf"), self._on_session)
        try:
            await self._started
        except BaseException:
            await self.close()
            raise
        await tell_missing_queues(self.broker, self._wants)

    def stop_taking(self) -> None:
        """Take no more messages, and give back those that have not begun. May be called several times."""
        if self._stopping is None and self._subscribers is not None:
            self._handling.stop()
            self._stopping = asyncio.get_running_loop().create_task(self._stop_taking())

    async def finish(self, timeout: float) -> bool:
        """Wait for the handlers that run, at most `timeout` seconds; return False if some were cut off.

        Then the connection is still open, so that the process can end, and with it the threads of handlers,
        before the broker gives their messages to another one. Otherwise it is closed.
        """
        self.stop_taking()
        if self._subscribers is None or self._stopping is None:
            return True
        if not await self._handling.finished(timeout):
            self._tell_cut_off(await self._handling.cut_off(CLOSE_GRACE), timeout)
            return False
        await asyncio.wait([self._stopping], timeout=CLOSE_GRACE)
        await self.close()
        return True

    def tell_what_is_cut_off(self, after: float) -> bool:
        """Log which messages are still being handled, `after` seconds since the end began; from any thread.

        Return whether there are any.
        """
        running = [] if self._subscribers is None else self._handling.running
        self._tell_cut_off(running, after)
        return bool(running)

    async def probe(self) -> None:
        """Return once the broker has answered, or the connection is gone."""
        session = None if self._supervisor is None else self._supervisor.current
        if session is not None:
            await session.probe()

    async def close(self) -> None:
        """Close the connection; what is in hand goes to another consumer."""
        if self._supervisor is not None:
            try:
                async with asyncio.timeout(CLOSE_GRACE):
                    await self._supervisor.close()
            except TimeoutError:
                logger.warning("broker=%s state=abandoned after=%gs", self.settings.alias, CLOSE_GRACE)
        if self._subscribers is not None and not self._handling.running:
            await self.broker.stop()
        if self._own_threads is not None:
            self._own_threads.stop()

    # As the sessions tell

    def take(self, delivery: Delivery) -> None:
        """See Watcher."""
        self._handling.take(delivery)

    def drop(self, channel: ConsumingChannel) -> None:
        """See Watcher."""
        self._consuming.discard(channel.planned)
        self._handling.drop(channel)

    def cancelled(self, subscription: Subscription) -> None:
        """See Watcher."""
        self._handling.give_back(subscription)

    def consuming(self, channel: SubscriberChannel) -> None:
        """See Watcher."""
        self._consuming.add(channel)
        if self._told.pop(channel, None) is not None:
            logger.info("broker=%s queues=%s state=consuming", self.settings.alias, _queues(channel))
        if self._started is not None and not self._started.done() and self.is_consuming:
            self._started.set_result(None)

    def interrupted(self, channel: SubscriberChannel, reason: str) -> None:
        """See Watcher."""
        self._tell(channel, "interrupted", reason)

    def refused(self, channel: SubscriberChannel, error: BrokerUnavailable) -> None:
        """See Watcher."""
        if isinstance(error, BrokerRefused) and self._started is not None and not self._started.done():
            self._started.set_exception(error)
        else:
            self._tell(channel, "waiting", str(error))

    def _tell_cut_off(self, deliveries: Iterable[Delivery], after: float) -> None:
        for delivery in deliveries:
            logger.error(
                "broker=%s queue=%s message_id=%s state=cut-off after=%gs: it is handled again, by another "
                "worker or by the next one",
                self.settings.alias,
                delivery.subscription.queue.name,
                delivery.message_id,
                after,
            )

    def _tell(self, channel: SubscriberChannel, state: str, reason: str) -> None:
        """Log what a channel suffers, once as long as it is the same."""
        if self._told.get(channel) != reason:
            self._told[channel] = reason
            logger.warning(
                "broker=%s queues=%s state=%s reason=%r", self.settings.alias, _queues(channel), state, reason
            )

    def _on_session(self, session: ConsumingSession | BrokerUnavailable) -> None:
        if self._started is None or self._started.done():
            return
        if isinstance(session, BrokerUnavailable):
            self._started.set_exception(session)
        elif self.is_consuming:  # there is nothing to consume
            self._started.set_result(None)

    async def _stop_taking(self) -> None:
        session = None if self._supervisor is None else self._supervisor.current
        if session is not None:
            await session.stop_taking()


def _queues(channel: SubscriberChannel) -> str:
    return ",".join(subscription.queue.name for subscription in channel.subscriptions)
