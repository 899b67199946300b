"""Three private RabbitMQ nodes in a cluster."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from .rabbitmq import RabbitMQNode

SIZE = 3
QUORUM = {"x-queue-type": "quorum", "x-quorum-initial-group-size": SIZE}


class RabbitMQCluster:
    """Three nodes that know each other; its quorum queues have a member on each."""

    def __init__(self) -> None:
        seed = RabbitMQNode()
        self.nodes = [seed, *(RabbitMQNode(seed) for _ in range(SIZE - 1))]

    def start(self) -> None:
        """Start the nodes and have them join; about 20 seconds."""
        seed, *others = self.nodes
        seed.start()  # with the epmd of all
        with ThreadPoolExecutor(SIZE) as pool:
            list(pool.map(RabbitMQNode.start, others))
        for node in self.nodes:
            node.ctl("await_startup")
        for node in others:
            for command in (("stop_app",), ("reset",), ("join_cluster", seed.name), ("start_app",)):
                node.ctl(*command, timeout=60)

    def declare_queue(self, name: str = "") -> str:
        """Declare a quorum queue and wait until each node has its member."""
        queue = self.nodes[0].declare_queue(name, arguments=QUORUM)
        deadline = time.monotonic() + 30
        while len(self._rows(queue)["online"]) < SIZE:
            if time.monotonic() > deadline:
                raise TimeoutError(f"The queue {queue!r} has no member on some node.")
        return queue

    def leader(self, queue: str) -> RabbitMQNode:
        """Return the node where the leader of a queue is."""
        name = self._rows(queue)["leader"]
        return next(node for node in self.nodes if node.name == name)

    def recover(self) -> None:
        """Have all nodes running again, and all members of the queues online."""
        for node in self.nodes:
            node.recover()
        for node in self.nodes:
            node.ctl("await_startup")

    def close(self) -> None:
        for node in self.nodes[::-1]:  # the first one holds the epmd
            node.close()

    def _rows(self, queue: str) -> dict:
        running = next(node for node in self.nodes if node.is_running)
        rows = json.loads(running.ctl("list_queues", "name", "leader", "online", "--formatter", "json"))
        return next(row for row in rows if row["name"] == queue)
