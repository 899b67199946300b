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

    @property
    def queue(self) -> str:
        return f"bench.{self.name}"

    def share_of(self, way: str) -> float:
        return self.bulk_share if way == "bulk" else self.share


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
    )
}
