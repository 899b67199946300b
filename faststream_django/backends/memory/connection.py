"""The embedded broker as the drivers see it: the parts of aiormq and aio-pika that are used.

A `RabbitBroker` on such a connection is FastStream's own: it declares, binds, consumes, publishes,
answers requests and stops with its own code.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from faststream_django.backends.memory.channel import MemoryChannel

if TYPE_CHECKING:
    from faststream.rabbit import RabbitBroker

    from faststream_django.backends.memory.server import MemoryServer

__all__ = ["MemoryConnection", "attach"]


async def attach(server: MemoryServer, broker: RabbitBroker) -> MemoryConnection:
    """Start a FastStream broker on the server: its subscribers consume, its publishers publish.

    ``broker.stop()`` ends it as usual.
    """
    connection = MemoryConnection(server)
    await connection.serve(broker)
    return connection


class MemoryConnection:
    """A connection to the embedded broker."""

    basic_nack = True  # aio-pika asks the connection whether the server can do it

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.connected = asyncio.Event()
        self.connected.set()
        self.is_closed = False
        self._channels: list[MemoryChannel] = []

    async def serve(self, broker: RabbitBroker) -> None:
        """Start the broker here instead of at its URL."""

        async def connect() -> Any:
            broker.config.connect(self)
            broker._channel = await broker.config.channel_manager.get_channel()  # noqa: SLF001
            return self

        # FastStream has no public way to bring a connection: its test broker replaces this as well.
        broker._connect = connect  # type: ignore[method-assign]  # noqa: SLF001
        await broker.start()

    async def channel(
        self,
        channel_number: int | None = None,  # noqa: ARG002
        *,
        publisher_confirms: bool = True,  # noqa: ARG002
        on_return_raises: bool = False,
    ) -> MemoryChannel:
        channel = MemoryChannel(self.server, self, on_return_raises=on_return_raises)
        self._channels.append(channel)
        return channel

    def cancel(self) -> None:
        """Take no more messages; those in hand can still be settled."""
        for channel in self._channels:
            channel.cancel()

    async def close(self, exc: BaseException | None = None) -> None:  # noqa: ARG002
        self.is_closed = True
        self.connected.clear()
        for channel in self._channels:
            await channel.close()
        self.server.release(self)
