"""Who takes part. Each has a module of its own, which is imported only in the process of the contender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ENTRANTS", "OURS", "Entrant"]

OURS = "faststream_django"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    name: str
    title: str
    path: str
    """Module and class below benchmarks.contenders."""
    kind: Literal["ours", "peer", "limit"] = "peer"
    share: float = 1.0
    """Of the messages of a round, for one that is so slow that the others would wait for it."""
    bulk_share: float = 1.0
    """The same where messages are published in bulk: a client without pipelining is no bulk publisher."""
    declares_queue: bool = False
    has_database: bool = False
    """Whether it needs a database of PostgreSQL."""
    is_silent: bool = False
    """Whether it publishes nothing, to show what the rest costs."""
    is_asking: bool = False
    """Whether it waits for replies, which prove its work: what the broker saw does not count."""
    lacks: tuple[str, ...] = ()
    """The guarantees that it cannot give, which its title must say."""

    @property
    def queue(self) -> str:
        return f"bench.{self.name}"

    def share_of(self, way: str) -> float:
        return self.bulk_share if way == "bulk" else self.share

    def published(self, messages: int) -> int:
        """Return how many of the messages of a workload reach the broker."""
        return 0 if self.is_silent or self.is_asking else messages


_REQUESTS = tuple(
    Entrant(
        name=name,
        title=title,
        path=f"requests:{path}",
        kind=kind,
        is_asking=True,
        lacks=("is_confirmed", "is_persistent"),
    )
    for name, title, path, kind in (
        ("request", f"{OURS}, request()", "OurRequests", "ours"),
        ("pika_request", "pika, a connection a thread", "PikaRequests", "peer"),
        ("faststream_request", "FastStream's request()", "FastStreamRequests", "peer"),
    )
)

_TRANSACTIONS = tuple(
    Entrant(name=name, title=title, path=f"outbox:{path}", kind=kind, has_database=True, is_silent=is_silent)
    for name, title, path, kind, is_silent in (
        ("outbox", f"{OURS}, outbox", "Outbox", "ours", False),
        ("outbox_many", "outbox, publish_many_on_commit()", "OutboxMany", "ours", False),
        ("outbox_stored", "outbox, not eager, no relay yet", "OutboxStored", "ours", False),
        ("outbox_keyed", "outbox, keyed, by the relay", "OutboxKeyed", "ours", False),
        ("memory", "ON_COMMIT in memory", "Memory", "peer", False),
        ("memory_many", "in memory, publish_many_on_commit()", "MemoryMany", "peer", False),
        ("no_message", "limit: no message", "NoMessage", "limit", True),
    )
)

_WORKERS = tuple(
    Entrant(
        name=name,
        title=title,
        path=f"consuming:{path}",
        kind="ours" if path == "OurWorker" else "peer",
        share=share,
        declares_queue=path == "DramatiqWorker",
        has_database=True,
    )
    for name, title, path, share in (
        ("worker", f"{OURS}, worker", "OurWorker", 1.0),
        ("faststream_worker", "FastStream alone", "FastStreamAlone", 1.0),
        ("celery_worker", "Celery, threads", "CeleryWorker", 0.5),
        ("celery_worker_tuned", "Celery, threads, tuned", "CeleryWorkerTuned", 1.0),
        ("celery_prefork", "Celery, prefork 2", "CeleryPrefork", 0.5),
        ("dramatiq_worker", "Dramatiq, 1 process", "DramatiqWorker", 1.0),
    )
)

ENTRANTS = {
    entrant.name: entrant
    for entrant in (
        Entrant(name=OURS, title="faststream_django", path="ours:Ours", kind="ours"),
        Entrant(name="pika", title="pika BlockingConnection", path="pika:Pika", bulk_share=0.1),
        Entrant(name="kombu", title="kombu", path="kombu:Kombu"),
        Entrant(name="celery", title="Celery apply_async", path="celery:CelerySender", bulk_share=0.1),
        Entrant(name="dramatiq", title="Dramatiq", path="dramatiq:Dramatiq", declares_queue=True),
        Entrant(name="amqpstorm", title="amqpstorm", path="amqpstorm:AmqpStorm", share=0.05),
        Entrant(name="faststream", title="FastStream in a loop", path="faststream:FastStream"),
        Entrant(
            name="faststream_gathered", title="FastStream, one gather()", path="faststream:FastStreamGathered"
        ),
        Entrant(name="aio_pika", title="aio-pika in a loop", path="aio_pika:AioPika"),
        Entrant(
            name="connect_per_message",
            title="connection per message",
            path="connect_per_message:ConnectPerMessage",
            share=0.05,
        ),
        Entrant(name="raw", title="limit: raw socket", path="raw:RawSocket", kind="limit"),
        Entrant(
            name="raw_bare", title="limit: raw socket, bare messages", path="raw:RawSocketBare", kind="limit"
        ),
        Entrant(name="round_trip", title="limit: one round trip", path="raw:RoundTrip", kind="limit"),
        Entrant(
            name="relay",
            title=f"{OURS}, relay",
            path="outbox:OutboxRelay",
            kind="ours",
            has_database=True,
        ),
        Entrant(
            name="faststream_outbox",
            title="faststream-outbox",
            path="faststream_outbox:FastStreamOutbox",
            share=0.15,
            has_database=True,
        ),
        Entrant(
            name="faststream_outbox_best",
            title="faststream-outbox, tuned",
            path="faststream_outbox:FastStreamOutboxBest",
            share=0.3,
            has_database=True,
        ),
        Entrant(
            name="celery_outbox",
            title="django-celery-outbox",
            path="celery_outbox:CeleryOutbox",
            share=0.15,
            has_database=True,
        ),
        Entrant(
            name="celery_outbox_best",
            title="django-celery-outbox, tuned",
            path="celery_outbox:CeleryOutboxBest",
            share=0.3,
            has_database=True,
        ),
        Entrant(
            name="outbox_pattern",
            title="django-outbox-pattern, no confirms",
            path="outbox_pattern:OutboxPattern",
            share=0.3,
            has_database=True,
            lacks=("is_confirmed", "is_mandatory"),
        ),
        *_TRANSACTIONS,
        *_REQUESTS,
        *_WORKERS,
        Entrant(
            name="publish_many",
            title="limit: publish_many()",
            path="ours:PublishMany",
            kind="limit",
        ),
    )
}
