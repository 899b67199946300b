"""What is compared of the outbox: the relay with those of the peers, the rest with ON_COMMIT in memory."""

from __future__ import annotations

from benchmarks.scenario import UNITS, Scenario
from benchmarks.workload import Workload

__all__ = ["outbox_scenarios"]

SIZE = 300
"""Bytes of a body."""
BACKLOG = 20_000

_RELAYS = (
    "relay",
    "faststream_outbox",
    "faststream_outbox_best",
    "celery_outbox",
    "celery_outbox_best",
    "outbox_pattern",
    "publish_many",
)
_TRANSACTIONS = ("outbox", "outbox_stored", "memory", "no_message")


def outbox_scenarios(part: float) -> list[Scenario]:
    return [
        Scenario(
            name="relay",
            title="A relay empties its table, 3 rounds",
            unit=UNITS["rate"],
            contenders=_RELAYS,
            workloads=(Workload(way="backlog", count=int(BACKLOG * part), size=SIZE),),
            rounds=3,
        ),
        Scenario(
            name="eager-1",
            title="Transaction with a message, 1 thread, median time",
            unit=UNITS["ms"],
            contenders=_TRANSACTIONS,
            workloads=(Workload(way="threads", calls=int(800 * part), size=SIZE),),
            against="memory",
        ),
        Scenario(
            name="eager-8",
            title="Transactions with a message, 8 threads",
            unit=UNITS["rate"],
            contenders=_TRANSACTIONS,
            workloads=(Workload(way="threads", calls=int(2400 * part), at_once=8, size=SIZE),),
            against="memory",
        ),
        Scenario(
            name="outbox-100",
            title="100 messages in a transaction on PostgreSQL",
            unit=UNITS["ms"],
            contenders=("outbox_many", "outbox", "memory_many", "memory"),
            workloads=(Workload(way="commits", count=100, calls=max(4, int(20 * part)), size=SIZE),),
            against="memory",
        ),
        Scenario(
            name="outbox-100-apart",
            title="The same, when nothing of the one before is under way",
            unit=UNITS["ms"],
            contenders=("outbox_many", "outbox", "memory_many", "memory"),
            workloads=(
                Workload(way="commits", count=100, calls=max(4, int(20 * part)), size=SIZE, pause=0.05),
            ),
            against="memory",
        ),
        Scenario(
            name="commit-to-queue",
            title="From the commit to a consumer, median time",
            unit=UNITS["ms"],
            contenders=("outbox", "outbox_keyed", "memory"),
            workloads=(Workload(way="arrivals", calls=max(20, int(100 * part)), size=SIZE),),
            against="memory",
            shows_slow=True,
        ),
    ]
