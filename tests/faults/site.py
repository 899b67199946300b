"""What a fault happens to: a node, a proxy before it, one connection, one queue."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from faststream_django.backends.rabbit import RabbitBackend
from faststream_django.conf import BrokerSettings
from faststream_django.connection import Connection
from faststream_django.loop import loop_thread
from tests.nodes import FaultProxy, RabbitMQNode

USER, PASSWORD = "publisher", "only-for-tests"

# Short, so that a fault is over soon: the bars of the guarantees are in terms of these.
TIMEOUT, CONNECT_TIMEOUT, HEARTBEAT = 1.0, 1.0, 2
# What a call may take: a timeout T is kept within max(10 %, 0.25 s) ...
TOLERANCE = max(0.1 * TIMEOUT, 0.25)
# ... and as much again for what the machine does in between: the load, the node and rabbitmqctl (an
# Erlang machine of its own each time) share two cores, and a thread waits for its turn.
BUSY = 0.65

# RabbitMQ 3.10 does not find a quorum queue again that was declared less than a second before kill -9:
# nothing that is published to it is ever confirmed. There is no sign to wait for.
SETTLED = 2.0


@dataclass(kw_only=True)
class Site:
    """One connection through a proxy, with a user of its own whose permissions can be revoked."""

    node: RabbitMQNode
    proxy: FaultProxy
    connection: Connection
    queue: str
    queue_type: str = "classic"
    exchange: str = ""
    destroyed: int = 0
    """Messages that the test itself deleted with their queue."""

    def declare(self) -> None:
        self.node.declare_queue(self.queue, arguments={"x-queue-type": self.queue_type})
        if self.queue_type == "quorum":
            time.sleep(SETTLED)

    def tasks(self) -> int:
        """Return how many tasks there are on the loop thread."""
        return loop_thread.run(_count_tasks, timeout=5)


async def _count_tasks() -> int:
    return len(asyncio.all_tasks())


@contextlib.contextmanager
def open_site(
    node: RabbitMQNode, queue: str, *, queue_type: str = "classic", **settings: object
) -> Iterator[Site]:
    """Make a user, a queue, a proxy and a connection; remove them at the end."""
    node.recover()
    node.ctl("await_startup")  # AMQP is answered a moment before users can be changed
    try:
        permit(node)
    except RuntimeError:
        node.ctl("add_user", USER, PASSWORD)
        permit(node)
    proxy = FaultProxy(node.port)
    short = {"timeout": TIMEOUT, "connect_timeout": CONNECT_TIMEOUT, "heartbeat": HEARTBEAT}
    broker = BrokerSettings(
        urls=(proxy.url_for(USER, PASSWORD),), backend="", **(short | {"shutdown_timeout": 2.0} | settings)
    )
    connection = Connection(broker, lambda: RabbitBackend(broker))
    site = Site(node=node, proxy=proxy, connection=connection, queue=queue, queue_type=queue_type)
    site.declare()
    try:
        yield site
    finally:
        node.recover()
        proxy.heal()
        connection.stop()
        proxy.close()
        node.delete_queue(queue)


def permit(node: RabbitMQNode) -> None:
    node.ctl("set_permissions", USER, "", ".*", "")


def forbid(node: RabbitMQNode) -> None:
    node.ctl("set_permissions", USER, "", "", "")


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    """Poll until a condition holds; return whether it did in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
