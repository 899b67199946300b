"""The queues of the embedded broker for an operator."""

from __future__ import annotations

from faststream_django.backends.memory.envelope import Envelope
from faststream_django.backends.memory.queue import Queue
from faststream_django.backends.memory.refusals import ServerRefused
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.backends.operating import (
    OperationRefused,
    OperatorChannel,
    OperatorSession,
    QueuedMessage,
)

__all__ = ["MemoryOperatorSession"]


class MemoryOperatorSession(OperatorSession):
    """Looks into the server of this process."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def count(self, queue: str) -> int | None:
        try:
            return self._server.count(queue)
        except ServerRefused:
            return None

    async def open_channel(self) -> OperatorChannel:
        return MemoryOperatorChannel(self._server)

    async def put(self, message: QueuedMessage, queue: str) -> None:
        try:
            verdict = self._server.publish("", queue, message.properties, message.body)
        except ServerRefused as refused:
            raise OperationRefused(str(refused)) from refused
        if verdict != "confirmed":
            reason = "is full" if verdict == "rejected" else "is not there"
            raise OperationRefused(f"queue {queue!r} {reason}")

    async def close(self) -> None:
        """There is nothing to end."""


class MemoryOperatorChannel(OperatorChannel):
    """Holds what was taken."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._held: dict[int, tuple[Queue, Envelope]] = {}
        self._taken = 0

    async def take(self, queue: str) -> QueuedMessage | None:
        with self._server.lock:
            try:
                source = self._server.queue(queue)
            except ServerRefused as refused:
                raise OperationRefused(str(refused)) from refused
            envelope = source.take()
            if envelope is None:
                return None
            self._taken += 1
            self._held[self._taken] = source, envelope
        return QueuedMessage(
            body=envelope.body,
            properties=envelope.open(),
            exchange=envelope.exchange,
            routing_key=envelope.routing_key,
            handle=self._taken,
        )

    async def delete(self, *messages: QueuedMessage) -> None:
        for message in messages:
            del self._held[message.handle]

    async def settle(self) -> None:
        """Everything is done at once here."""

    async def close(self) -> None:
        held, self._held = self._held, {}
        with self._server.lock:
            for source, envelope in reversed(held.values()):
                source.requeue(envelope)
                source.deliver()
