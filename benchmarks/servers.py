"""The private servers of a run."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from benchmarks.addresses import Addresses
from benchmarks.contenders import Entrant
from tests.nodes import PostgreSQLCluster, RabbitMQNode, free_port

__all__ = ["Servers"]

# FastStream's threads end when they are idle, and leave their connections to the garbage collector.
_CONNECTIONS = 300
_DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")


class Servers:
    """One RabbitMQ node, and a PostgreSQL cluster where somebody needs it; gone at the end of the block."""

    def __init__(self, *, with_database: bool) -> None:
        self._closing = ExitStack()
        self.node = RabbitMQNode(stomp_port=free_port() if with_database else None)
        self._closing.callback(self.node.close)
        self._cluster: PostgreSQLCluster | None = None
        if with_database:
            self._cluster = PostgreSQLCluster(free_port(), is_durable=True, connections=_CONNECTIONS)
            self._closing.callback(self._cluster.close)

    def __enter__(self) -> Self:
        try:
            self.node.start()
            if self._cluster:
                self._cluster.start()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def addresses(self, entrant: Entrant) -> Addresses:
        """Make a database for who needs one, and tell where everything is."""
        if not entrant.has_database:
            return Addresses(amqp=self.node.url())
        assert self._cluster is not None  # noqa: S101 - the caller knew who takes part
        assert self.node.stomp_port is not None  # noqa: S101 - as above
        name = f"bench_{entrant.name}"
        self._cluster.execute(f'CREATE DATABASE "{name}"')
        return Addresses(
            amqp=self.node.url(), stomp_port=self.node.stomp_port, database=self._cluster.url(name)
        )

    def versions(self) -> str:
        text = f"RabbitMQ {self.node.ctl('version').strip()}, with one scheduler"
        if self._cluster is None:
            return text
        version = self._cluster.setting("server_version").split()[0]
        durability = [f"{name} {self._cluster.setting(name)}" for name in _DURABILITY]
        return f"{text}, and PostgreSQL {version}, {', '.join(durability)}"
