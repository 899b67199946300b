"""A node of a cluster is lost, and one address leads to another node at once."""

import time
import uuid

from faststream_django.backends.rabbit import RabbitBackend
from faststream_django.conf import BrokerSettings
from faststream_django.connection import Connection
from faststream_django.exceptions import MessageRejected
from tests.nodes import Account, FaultProxy, Ledger, RabbitMQCluster

from .faults import AWAY
from .load import Load, to
from .site import CONNECT_TIMEOUT, HEARTBEAT, TIMEOUT

# Whose node is killed, seen from the connection and from the queue.
CASES = ("own node", "leader", "own node and leader")


def fail_over(cluster: RabbitMQCluster, case: str) -> tuple[Account, float]:
    """Kill a node under load; return the account, and the longest time without a confirm from then on."""
    queue = cluster.declare_queue(f"faults-{uuid.uuid4().hex}")
    leader = cluster.leader(queue)
    first, second = (node for node in cluster.nodes if node is not leader)
    mine = leader if case == "own node and leader" else first
    lost = leader if "leader" in case else mine
    proxy = FaultProxy(mine.port)
    settings = BrokerSettings(
        urls=(proxy.url,), backend="", timeout=TIMEOUT, connect_timeout=CONNECT_TIMEOUT, heartbeat=HEARTBEAT
    )
    connection = Connection(settings, lambda: RabbitBackend(settings))
    # A channel that lost its leader nacks; see faststream_django/backends/rabbit/session.py.
    ledger = Ledger(*AWAY, MessageRejected)
    try:
        with Load(connection, ledger, to(queue)):
            ledger.wait_for_acks(500)
            moment = time.monotonic()
            lost.kill()
            if lost is mine:
                proxy.switch(second.port)
            ledger.wait_for_acks(1, timeout=60)
            ledger.wait_for_acks(1500, timeout=60)
        cluster.recover()
        ledger.read(second, [queue])
    finally:
        connection.stop()
        proxy.close()
    print(f"{case}: {ledger.account()} errors={dict(ledger.errors)}")
    return ledger.account(), ledger.longest_gap(moment)
