"""What is handled at once, and what was handled: messages in hand, each in a task of its own."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from faststream_django.worker.places import is_moved, leave_place, note_place

if TYPE_CHECKING:
    from faststream_django.backends.rabbit.consuming_delivery import Delivery, DeliveryChannel
    from faststream_django.backends.rabbit.subscriptions import Subscription

__all__ = ["ASYNC_HANDLERS", "Handling"]

logger = logging.getLogger("faststream_django.worker")

ASYNC_HANDLERS = 100
"""How many messages are handled at once by coroutines, those of all subscribers together."""

MOST_REMEMBERED = 10_000
"""How many handled messages are remembered at least, so that a copy that comes again is acked."""

REQUEUE_PAUSE = 1.0
"""Seconds before a message goes back that FastStream let fall, lest it come again in a hot loop."""


class Handling:
    """Handles messages in tasks that outlive the session they came through.

    Handlers that are functions share `concurrency` places, coroutines share ASYNC_HANDLERS. A message that
    finds no place waits in the order of its queue, and queues take turns. One that the broker delivers
    again, because the session was lost, is not begun again while it runs, nor when it is done.
    """

    def __init__(self, concurrency: int, is_threaded: Callable[[Subscription], bool]) -> None:
        self._threads = _Places(concurrency)
        self._coroutines = _Places(ASYNC_HANDLERS)
        self._is_threaded = is_threaded
        self._places_of: dict[Subscription, _Places] = {}
        self._running: dict[Hashable, Delivery] = {}
        self._done = _Memory(MOST_REMEMBERED)
        self._tasks: dict[asyncio.Task[None], Delivery] = {}
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.handled = 0
        """How many handlers have ended."""

    @property
    def running(self) -> list[Delivery]:
        """What is being handled."""
        return list(self._tasks.values())

    def take(self, delivery: Delivery) -> None:
        """Handle a message, as soon as there is a place."""
        key = delivery.key
        if not delivery.is_redelivered:
            self._done.discard(key)  # the same was published again, as when a dead letter is replayed
        elif key is not None:
            if key in self._done:
                delivery.ack()
                return
            running = self._running.get(key)
            if running is not None:
                running.join(delivery)
                return
        places = self._places(delivery.subscription)
        places.wait(delivery)
        self._begin(places)

    def drop(self, channel: DeliveryChannel) -> None:
        """Forget what came through a channel that has ended and has not begun."""
        for places in (self._threads, self._coroutines):
            places.remove(lambda delivery: delivery.channel is channel)

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stopping.set()

    def give_back(self, subscription: Subscription) -> None:
        """Give back what has not begun of a subscription, once the broker sends no more of it."""
        for delivery in self._places(subscription).remove(lambda each: each.subscription is subscription):
            delivery.give_back()

    async def finished(self, timeout: float) -> bool:
        """Wait until nothing runs, at most `timeout` seconds; return whether that is so."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        return not self._tasks

    async def cut_off(self, grace: float) -> list[Delivery]:
        """Cancel the coroutines that still run, which have `grace` seconds for it; return what is cut off.

        A thread cannot be cancelled: it ends with the process.
        """
        cut = self.running
        coroutines = [
            task
            for task, delivery in self._tasks.items()
            if self._places(delivery.subscription) is self._coroutines
        ]
        for task in coroutines:
            task.cancel()
        if coroutines:
            await asyncio.wait(coroutines, timeout=grace)
        return cut

    def _places(self, subscription: Subscription) -> _Places:
        places = self._places_of.get(subscription)
        if places is None:
            places = self._threads if self._is_threaded(subscription) else self._coroutines
            self._places_of[subscription] = places
        return places

    def _begin(self, places: _Places) -> None:
        while not self._stopping.is_set() and (delivery := places.next()) is not None:
            key = delivery.key
            if key is not None:
                self._running.setdefault(key, delivery)
                delivery.on_settled = self._settled
            if delivery.subscription.acks_first:
                delivery.ack()
            # An empty context: nothing of the connection's belongs to a handler.
            task = self._loop.create_task(self._handle(delivery, places), context=contextvars.Context())
            self._tasks[task] = delivery
            task.add_done_callback(self._ended)

    async def _handle(self, delivery: Delivery, places: _Places) -> None:
        def leave() -> None:
            places.free += 1
            self._begin(places)

        note_place(leave, self._stopping)
        try:
            await delivery.subscription.consume(delivery.incoming())
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # FastStream lets no Exception through; KeyboardInterrupt would end the loop.
            logger.exception(
                "queue=%s message_id=%s error=%s",
                delivery.subscription.queue.name,
                delivery.message_id,
                type(error).__name__,
            )
            if not delivery.is_settled:
                await asyncio.sleep(REQUEUE_PAUSE)
                delivery.give_back()
        else:
            if not delivery.is_settled and not delivery.subscription.subscriber.running:
                delivery.give_back()  # its subscriber has stopped, and never looked at it
        finally:
            self._forget_running(delivery)
            self.handled += 1
            leave_place()

    def _settled(self, delivery: Delivery) -> None:
        key = delivery.key
        # What lies among the dead letters may be replayed: that is no copy of what came before.
        if delivery.is_acked and key is not None and not is_moved():
            self._done.add(key)
        self._forget_running(delivery)

    def _forget_running(self, delivery: Delivery) -> None:
        key = delivery.key
        if self._running.get(key) is delivery:
            del self._running[key]

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]


class _Places:
    """Places for handlers, and the messages that wait for one: queues take turns."""

    def __init__(self, count: int) -> None:
        self.free = count
        self._waiting: dict[Subscription, deque[Delivery]] = {}
        self._turns: deque[Subscription] = deque()

    def wait(self, delivery: Delivery) -> None:
        subscription = delivery.subscription
        waiting = self._waiting.setdefault(subscription, deque())
        if not waiting:
            self._turns.append(subscription)
        waiting.append(delivery)

    def next(self) -> Delivery | None:
        """Return the message whose turn it is, and occupy a place; None without a place or a message."""
        if not self.free:
            return None
        for _ in range(len(self._turns)):
            subscription = self._turns.popleft()
            waiting = self._waiting[subscription]
            if not subscription.subscriber.running:  # it has stopped itself, and is about to be cancelled
                self._turns.append(subscription)
                continue
            self.free -= 1
            delivery = waiting.popleft()
            if waiting:
                self._turns.append(subscription)
            return delivery
        return None

    def remove(self, is_meant: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove messages that wait, and return them."""
        removed: list[Delivery] = []
        for subscription, waiting in self._waiting.items():
            left: deque[Delivery] = deque()
            for delivery in waiting:
                (removed if is_meant(delivery) else left).append(delivery)
            self._waiting[subscription] = left
        self._turns = deque(each for each in self._turns if self._waiting[each])
        return removed


class _Memory:
    """Remembers at least the last `most` keys, and at most twice as many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._recent: set[Hashable] = set()
        self._older: set[Hashable] = set()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._recent or key in self._older

    def discard(self, key: Hashable) -> None:
        self._recent.discard(key)
        self._older.discard(key)

    def add(self, key: Hashable) -> None:
        if len(self._recent) >= self._most:
            self._older, self._recent = self._recent, set()
        self._recent.add(key)
