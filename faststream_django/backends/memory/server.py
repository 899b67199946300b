"""The embedded broker: exchanges, bindings and queues in this process, with RabbitMQ's rules.

It is meant for development and tests: nothing survives the process, queues hand out in order of
arrival whatever the priority, and a stream is an ordinary queue. A headers binding compares as in RabbitMQ 4.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from faststream_django.backends.memory.envelope import (
    DeathReason,
    Envelope,
    as_message,
    bury,
    is_cycle,
    strings,
)
from faststream_django.backends.memory.exchanges import Exchange, Exchanges
from faststream_django.backends.memory.queue import Queue
from faststream_django.backends.memory.refusals import (
    ServerRefused,
    refuse_expiry,
    refuse_no_list,
    refuse_other,
)

if TYPE_CHECKING:
    from pamqp.commands import Basic

    from faststream_django.conf.entries import BrokerSettings
    from faststream_django.messages.message import Message

__all__ = ["MemoryServer", "Verdict"]

NOWHERE = "\0"  # no exchange has this name; "" is the default exchange
Verdict = Literal["confirmed", "returned", "rejected"]
OnConnect = Callable[["MemoryServer", "BrokerSettings"], Awaitable[None]]


class MemoryServer:
    """One per URL and process, like a RabbitMQ node; every method may be called in any thread.

    A forked child begins with an empty server of its own: what the parent holds is the parent's.
    """

    on_connect: ClassVar[OnConnect | None] = None
    """Awaited when a publisher connects, before its first message: attaches the subscribers of this
    process. The app sets it when it is ready."""

    _servers: ClassVar[dict[tuple[int, str], MemoryServer]] = {}

    def __init__(self, name: str = "") -> None:
        self.name = name
        # Not loop.py's business: tests look into the queues while the loop thread fills them.
        self.lock = threading.RLock()
        self._queues: dict[str, Queue] = {}
        self._exchanges = Exchanges(self._queues)
        self.is_stopped = False
        self._on_stop: dict[object, Callable[[], object]] = {}

    def __repr__(self) -> str:
        return f"<MemoryServer 'memory://{self.name}'>"

    @classmethod
    def get(cls, url: str = "memory://") -> MemoryServer:
        """Return the server of this process for the URL; the first call makes it."""
        # After a fork the parent's servers stay here: collecting one could close the parent's loop.
        name = urlsplit(url).netloc
        key = os.getpid(), name
        return cls._servers.get(key) or cls._servers.setdefault(key, cls(name))

    @classmethod
    def purge_all(cls) -> None:
        """Empty every queue of this process."""
        for (process, _), server in tuple(cls._servers.items()):
            if process == os.getpid():
                server.purge()

    # Outages

    def stop(self) -> None:
        """Take the broker away: publishers lose their connection, and get no other before start().

        The queues keep what they hold, and subscribers go on with it.
        """
        with self.lock:
            self.is_stopped = True
            lost = tuple(self._on_stop.values())
            self._on_stop.clear()
        for tell in lost:
            tell()

    def start(self) -> None:
        """Bring the broker back after stop()."""
        self.is_stopped = False

    def attend(self, publisher: object, on_stop: Callable[[], object]) -> bool:
        """Have `on_stop` called, in any thread, when the broker is stopped; return False if it is."""
        with self.lock:
            if not self.is_stopped:
                self._on_stop[publisher] = on_stop
            return not self.is_stopped

    def leave(self, publisher: object) -> None:
        """Forget what attend() was told."""
        with self.lock:
            self._on_stop.pop(publisher, None)

    # Inspection

    def drain(self, queue: str) -> list[Message]:
        """Take out and return the messages that wait in the queue; what a consumer holds stays."""
        return [as_message(envelope) for envelope in self.queue(queue).drain()]

    def count(self, queue: str) -> int:
        """Return how many messages wait in the queue, without those that a consumer holds."""
        return self.queue(queue).count()

    def purge(self) -> None:
        """Empty every queue."""
        with self.lock:
            for queue in self._queues.values():
                queue.clear()

    # Topology

    def queue(self, name: str) -> Queue:
        """Return the queue or raise NOT_FOUND."""
        with self.lock:
            self._delete_expired()
            if name not in self._queues:
                raise ServerRefused(404, f"NOT_FOUND - no queue '{name}' in vhost '/'")
            return self._queues[name]

    def exchange(self, name: str) -> Exchange:
        """Return the exchange or raise NOT_FOUND."""
        with self.lock:
            return self._exchanges[name]

    def declare_queue(
        self,
        name: str = "",
        *,
        passive: bool = False,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        owner: object = None,
    ) -> Queue:
        """Declare a queue, or verify it if ``passive``; without a name it gets one."""
        with self.lock:
            self._delete_expired()
            name = name or f"amq.gen-{uuid.uuid4().hex}"
            queue = self.queue(name) if passive else self._queues.get(name)
            if queue is None:
                refuse_expiry(name, arguments or {})
                queue = self._queues[name] = Queue(
                    self,
                    name,
                    durable=durable,
                    exclusive=exclusive,
                    auto_delete=auto_delete,
                    arguments=arguments,
                    owner=owner if exclusive else None,
                )
                return queue
            if queue.exclusive and queue.owner is not owner:
                raise ServerRefused(
                    405,
                    f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'",
                )
            if not passive:
                wanted: dict[str, Any] = {
                    "durable": durable,
                    "exclusive": exclusive,
                    "auto_delete": auto_delete,
                }
                current = {key: getattr(queue, key) for key in wanted}
                wanted |= {"x-queue-type": "classic", **(arguments or {})}
                refuse_other("queue", name, wanted, current | queue.arguments)
            queue.touch()
            return queue

    def declare_exchange(
        self,
        name: str,
        type: str = "direct",  # noqa: A002
        *,
        passive: bool = False,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Exchange:
        """Declare an exchange, or verify it if ``passive``."""
        with self.lock:
            if passive:
                return self.exchange(name)
            return self._exchanges.declare(
                name,
                type,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=arguments or {},
            )

    def bind(
        self,
        destination: Queue | Exchange,
        source: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Let messages of the exchange ``source`` reach the queue or exchange."""
        with self.lock:
            self._exchanges.bind(destination, source, routing_key, arguments or {})

    def delete_queue(self, queue: Queue) -> None:
        """Delete the queue with its messages and bindings; auto-delete exchanges go with those."""
        with self.lock:
            if self._queues.get(queue.name) is queue:
                del self._queues[queue.name]
            self._exchanges.unbind(queue)

    def _delete_expired(self) -> None:
        """Delete the queues whose ``x-expires`` has passed; asked before anyone looks for a queue."""
        for queue in [queue for queue in self._queues.values() if queue.has_expired()]:
            self.delete_queue(queue)

    def release(self, owner: object) -> None:
        """Delete the exclusive queues of a connection that ends."""
        with self.lock:
            for queue in [q for q in self._queues.values() if q.exclusive and q.owner is owner]:
                self.delete_queue(queue)

    # Messages

    def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Basic.Properties,
        body: bytes,
        *,
        mandatory: bool = True,
    ) -> Verdict:
        """Put the message into every queue that is bound for it.

        ``returned``: no queue is, and it is mandatory; ``rejected``: a queue is full and says so,
        other queues keep their copy. The headers CC and BCC name more routing keys; BCC is removed.
        """
        with self.lock:
            self._delete_expired()
            target = self.exchange(exchange)
            if target.internal:
                raise ServerRefused(
                    403,
                    f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'",
                )
            headers = dict(properties.headers or {})
            refuse_no_list(headers)
            copy_keys = strings(headers.get("CC")) + strings(headers.get("BCC"))
            if headers.pop("BCC", None) is not None:
                properties.headers = headers
            envelope = Envelope.seal(exchange, routing_key, properties, body, copy_keys)
            queues = list(self._exchanges.route(target, [routing_key, *copy_keys], headers))
            if not queues:
                return "returned" if mandatory else "confirmed"
            accepted = [queue.put(envelope.copy()) for queue in queues]
            return "confirmed" if all(accepted) else "rejected"

    def is_congested(self) -> bool:
        """Tell whether the consumers of some queue are far behind."""
        with self.lock:
            return any(queue.is_congested() for queue in self._queues.values())

    def dead_letter(self, queue: Queue, envelope: Envelope, reason: DeathReason) -> None:
        """Send the message to the dead letter exchange of the queue; without one it is dropped."""
        with self.lock:
            target = self._exchanges.get(queue.arguments.get("x-dead-letter-exchange", NOWHERE))
            if target is None:
                return
            self._delete_expired()
            keys = [envelope.routing_key, *envelope.copy_keys]
            if "x-dead-letter-routing-key" in queue.arguments:
                keys = [queue.arguments["x-dead-letter-routing-key"]]
            properties = bury(queue.name, envelope, reason)
            dead = Envelope.seal(target.name, keys[0], properties, envelope.body, keys[1:])
            for destination in self._exchanges.route(target, keys, properties.headers or {}):
                if not is_cycle(destination.name, properties, reason):
                    destination.put(dead.copy())
