"""What the figures of the outbox must show."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bar import Bar, Figures, rate_over, time_over
from benchmarks.contenders import ENTRANTS

__all__ = ["OUTBOX_BARS"]


def _over_best_peer(figures: Figures) -> float:
    peers = [row.rate for row in figures.all("relay") if ENTRANTS[row.contender].kind == "peer"]
    return figures("relay", "relay").rate / max(peers)


def _arrival(contender: str, *, is_slow: bool = False) -> Callable[[Figures], float]:
    def milliseconds(figures: Figures) -> float:
        row = figures("commit-to-queue", contender)
        return 1e3 * (row.slow_seconds if is_slow else row.median_seconds)

    return milliseconds


OUTBOX_BARS = (
    Bar(
        title="relay: messages/s",
        limit=10_000,
        unit="/s",
        measure=lambda figures: figures("relay", "relay").rate,
    ),
    Bar(
        title="relay: messages/s against publish_many() of the same",
        limit=0.6,
        unit="x",
        measure=rate_over("relay", "relay", "publish_many"),
    ),
    Bar(
        title="relay: messages/s against the best relay of a peer",
        limit=5,
        unit="x",
        measure=_over_best_peer,
    ),
    Bar(
        title="outbox, 1 thread: median time of a transaction against memory",
        limit=1.15,
        unit="x",
        is_at_most=True,
        measure=time_over("eager-1", "outbox", "memory"),
    ),
    Bar(
        title="outbox, 8 threads: transactions/s against memory",
        limit=1.1,
        unit="x",
        measure=rate_over("eager-8", "outbox", "memory"),
    ),
    Bar(
        title="100 messages by publish_many_on_commit(): time against memory",
        limit=1,
        unit="x",
        is_at_most=True,
        measure=time_over("outbox-100-apart", "outbox_many", "memory"),
    ),
    Bar(
        title="outbox: from the commit to a consumer, median",
        limit=2,
        unit="ms",
        is_at_most=True,
        measure=_arrival("outbox"),
    ),
    Bar(
        title="relay woken by NOTIFY: from the commit to a consumer, median",
        limit=5,
        unit="ms",
        is_at_most=True,
        measure=_arrival("outbox_keyed"),
    ),
    Bar(
        title="relay woken by NOTIFY: from the commit to a consumer, 95 %",
        limit=50,
        unit="ms",
        is_at_most=True,
        measure=_arrival("outbox_keyed", is_slow=True),
    ),
)
