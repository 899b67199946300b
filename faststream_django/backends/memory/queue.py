"""A queue of the embedded broker: order, limits, expiry, delivery to consumers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faststream_django.backends.memory.envelope import DeathReason, Envelope

__all__ = ["CONGESTED_BYTES", "CONGESTED_LENGTH", "UNCONSUMED_LIMIT", "Consumer", "Host", "Queue"]

logger = logging.getLogger("faststream_django.connection")

UNCONSUMED_LIMIT = 1000
"""Messages that a queue without consumers and without ``x-max-length`` keeps: a process that only
publishes must not grow for ever."""


CONGESTED_LENGTH, CONGESTED_BYTES = 10_000, 16 * 1024 * 1024
"""How far consumers may fall behind before publishers are slowed down."""


class Consumer(Protocol):
    """Who takes messages from a queue."""

    def has_room(self) -> bool:
        """Tell whether the prefetch limit allows one more message."""

    def take(self, envelope: Envelope) -> None:
        """Take the message; return at once."""


class Host(Protocol):
    """The server that a queue lies on."""

    lock: threading.RLock

    def dead_letter(self, queue: Queue, envelope: Envelope, reason: DeathReason) -> None:
        """Send the message to the dead letter exchange of the queue; without one it is dropped."""

    def delete_queue(self, queue: Queue) -> None:
        """Delete the queue with its messages and bindings."""


class Queue:
    """A queue; every method may be called in any thread."""

    def __init__(
        self,
        host: Host,
        name: str,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        owner: object = None,
    ) -> None:
        self.name = name
        self.durable = durable
        self.exclusive = exclusive
        self.auto_delete = auto_delete
        self.arguments = {"x-queue-type": "classic", **(arguments or {})}
        self.owner = owner
        self._host = host
        self._ready: deque[Envelope] = deque()
        self._ready_bytes = 0
        self._consumers: deque[Consumer] = deque()
        self._timer: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None
        self._has_warned = False
        self._unused_since = time.monotonic()

    def __repr__(self) -> str:
        return f"<Queue {self.name!r}: {len(self._ready)} ready>"

    def touch(self) -> None:
        """Let the time of ``x-expires`` begin anew."""
        self._unused_since = time.monotonic()

    def has_expired(self) -> bool:
        """Tell whether nobody has used the queue for the time of ``x-expires``."""
        milliseconds: int | None = self.arguments.get("x-expires")
        if milliseconds is None or self._consumers:
            return False
        return time.monotonic() - self._unused_since >= milliseconds / 1000

    def count(self) -> int:
        """Return how many messages are ready."""
        with self._host.lock:
            self._drop_expired()
            return len(self._ready)

    def is_congested(self) -> bool:
        """Tell whether the consumers are far behind."""
        return bool(self._consumers) and (
            len(self._ready) > CONGESTED_LENGTH or self._ready_bytes > CONGESTED_BYTES
        )

    def put(self, envelope: Envelope) -> bool:
        """Take in the message; False if the queue is full and refuses instead of dropping."""
        with self._host.lock:
            envelope.expires_at = self._expiry_of(envelope)
            if not self._ready and (consumer := self._next_consumer()):
                consumer.take(envelope)
                return True
            overflow = self.arguments.get("x-overflow", "drop-head")
            if overflow != "drop-head" and self._would_overflow(envelope):
                if overflow == "reject-publish-dlx":
                    self._host.dead_letter(self, envelope, "maxlen")
                return False
            self._push(envelope)
            self._drop_expired()
            self._drop_excess()
            return True

    def requeue(self, envelope: Envelope) -> None:
        """Put a message that a consumer gave back at the head."""
        with self._host.lock:
            envelope.deliveries += 1
            limit = self.arguments.get("x-delivery-limit")
            if limit is not None and envelope.deliveries > limit:
                self._host.dead_letter(self, envelope, "delivery_limit")
                return
            self._ready.appendleft(envelope)
            self._ready_bytes += len(envelope.body)
            self._drop_excess()

    def reject(self, envelope: Envelope) -> None:
        """Dead-letter a message that a consumer refused, or drop it."""
        self._host.dead_letter(self, envelope, "rejected")

    def deliver(self) -> None:
        """Hand out what is ready to the consumers that have room, in turn."""
        with self._host.lock:
            self._drop_expired()
            while self._ready and (consumer := self._next_consumer()):
                consumer.take(self._pop())
                self._drop_expired()

    def add_consumer(self, consumer: Consumer) -> None:
        with self._host.lock:
            self._consumers.append(consumer)
            self.deliver()

    def remove_consumer(self, consumer: Consumer) -> None:
        """Forget the consumer; an auto-delete queue goes with its last one."""
        with self._host.lock:
            if consumer not in self._consumers:
                return
            self._consumers.remove(consumer)
            self.touch()
            if self.auto_delete and not self._consumers:
                self._host.delete_queue(self)

    def take(self) -> Envelope | None:
        """Take out the message at the head, past the consumers."""
        with self._host.lock:
            self.touch()
            self._drop_expired()
            return self._pop() if self._ready else None

    def drain(self) -> list[Envelope]:
        """Take out everything that is ready."""
        with self._host.lock:
            self.touch()
            drained = []
            self._drop_expired()
            while self._ready:
                drained.append(self._pop())
                self._drop_expired()
            return drained

    def clear(self) -> None:
        with self._host.lock:
            self._ready.clear()
            self._ready_bytes = 0

    def _next_consumer(self) -> Consumer | None:
        for _ in range(len(self._consumers)):
            consumer = self._consumers[0]
            self._consumers.rotate(-1)
            if consumer.has_room():
                return consumer
        return None

    def _push(self, envelope: Envelope) -> None:
        self._ready.append(envelope)
        self._ready_bytes += len(envelope.body)

    def _pop(self) -> Envelope:
        envelope = self._ready.popleft()
        self._ready_bytes -= len(envelope.body)
        return envelope

    def _expiry_of(self, envelope: Envelope) -> float | None:
        ttls = [ttl for ttl in (envelope.ttl, self._ttl) if ttl is not None]
        return time.monotonic() + min(ttls) if ttls else None

    @property
    def _ttl(self) -> float | None:
        milliseconds = self.arguments.get("x-message-ttl")
        return None if milliseconds is None else milliseconds / 1000

    def _drop_expired(self) -> None:
        # Only the head is looked at, as in RabbitMQ: what is behind it expires when it gets there.
        while self._ready and self._ready[0].has_expired():
            self._host.dead_letter(self, self._pop(), "expired")
        self._watch_head()

    def _watch_head(self) -> None:
        """Dead-letter the head in time although nobody asks: delayed retries live on that."""
        if not self._ready or self._ready[0].expires_at is None:
            return
        if "x-dead-letter-exchange" not in self.arguments:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # a test looks in from its own thread; the loop thread has its timer already
        if self._timer is not None and self._timer[0] is loop:
            return
        delay = max(0.0, self._ready[0].expires_at - time.monotonic())
        self._timer = loop, loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        with self._host.lock:
            self._timer = None
            if self.has_expired():
                self._host.delete_queue(self)  # what lies in it is not dead-lettered
            else:
                self._drop_expired()

    def _would_overflow(self, envelope: Envelope) -> bool:
        length = self.arguments.get("x-max-length")
        size = self.arguments.get("x-max-length-bytes")
        return (length is not None and len(self._ready) + 1 > length) or (
            size is not None and self._ready_bytes + len(envelope.body) > size
        )

    def _drop_excess(self) -> None:
        length = self.arguments.get("x-max-length")
        size = self.arguments.get("x-max-length-bytes")
        if length is None and not self._consumers:
            length = UNCONSUMED_LIMIT
            if len(self._ready) > length:
                self._warn_once()
        while self._ready and (
            (length is not None and len(self._ready) > length)
            or (size is not None and self._ready_bytes > size)
        ):
            self._host.dead_letter(self, self._pop(), "maxlen")

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The embedded broker drops the oldest messages of queue %r: nobody consumes it,"
                " and it keeps %d. Add a subscriber, or set 'x-max-length' in its arguments.",
                self.name,
                UNCONSUMED_LIMIT,
            )
