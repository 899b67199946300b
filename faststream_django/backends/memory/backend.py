"""``memory://``: the embedded broker of this process, for development and tests without a server.

The queues live in the process and end with it. A forked child begins with empty ones of its own.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from faststream_django.backends.base import NotSent, Publication, Request, Session, Settled, Verdict
from faststream_django.backends.memory.connection import MemoryConnection
from faststream_django.backends.memory.operating import MemoryOperatorSession
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.backends.rabbit.backend import RabbitBackend
from faststream_django.backends.rabbit.errors import connection_lost, explained, publish_error
from faststream_django.backends.rabbit.properties import basic_publish, received
from faststream_django.backends.rabbit.protocol import REPLIES
from faststream_django.backends.rabbit.topology import Topology, declare_now
from faststream_django.exceptions import (
    BrokerUnavailable,
    ConnectionLost,
    MessageUnroutable,
    PublishTimeout,
)
from faststream_django.messages.reply import Reply

if TYPE_CHECKING:
    from aio_pika import IncomingMessage

    from faststream_django.backends.operating import OperatorSession
    from faststream_django.conf.entries import BrokerSettings
    from faststream_django.conf.topology import ExchangeSettings, QueueSettings
    from faststream_django.messages.message import Message

__all__ = ["MemoryBackend", "MemorySession"]

STOPPED = "the embedded broker was stopped"
FLOW_PAUSE, FLOW_STEP = 0.05, 0.002
"""Seconds that a message waits at most while the subscribers are far behind, and between two looks."""


class MemoryBackend(RabbitBackend):
    """Connects to the embedded broker of the URL; middlewares and codec are as for RabbitMQ."""

    async def connect(self, url: str) -> Session:
        server = MemoryServer.get(url)
        if server.is_stopped:
            raise BrokerUnavailable(STOPPED)
        session = MemorySession(server)
        await session.open(self.settings)
        if MemoryServer.on_connect is not None:
            await MemoryServer.on_connect(server, self.settings)
        if not server.attend(session, session.lose_from_any_thread):
            raise BrokerUnavailable(STOPPED)
        return session

    async def operate(self, url: str) -> OperatorSession:
        server = MemoryServer.get(url)
        if server.is_stopped:
            raise BrokerUnavailable(STOPPED)
        return MemoryOperatorSession(server)


class MemorySession(Session):
    """A publisher on the embedded broker: a message is confirmed once it is in its queues."""

    def __init__(self, server: MemoryServer) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        # It answers what the topology and the channel ask of aiormq's connection.
        self._connection: Any = MemoryConnection(server)
        self._server = server
        self._flow = asyncio.Lock()
        self._topology_errors: dict[str, str] = {}
        self._tasks: dict[Publication, asyncio.Task[None]] = {}
        # By correlation id: the requests that are under way, and what they wait for.
        self._requests: dict[str, tuple[Request, asyncio.Future[Message]]] = {}

    async def open(self, settings: BrokerSettings) -> None:
        await Topology(settings).declare(self._connection.channel, self._topology_errors)
        self._channel = await self._connection.channel(on_return_raises=True)

    def post(
        self,
        message: Message,
        publication: Publication,
        on_settled: Settled,
        *,
        more: bool = False,  # noqa: ARG002
    ) -> None:
        publication.sent_as, publication.on_settled = message, on_settled
        task = asyncio.get_running_loop().create_task(self._publish(message, publication))
        self._tasks[publication] = task
        task.add_done_callback(lambda _: self._tasks.pop(publication, None))

    def request(self, message: Message, request: Request, on_settled: Settled) -> None:
        request.reply, request.is_routed = None, False
        self.post(replace(message, reply_to=REPLIES), request, on_settled)

    async def declare(
        self,
        queues: tuple[QueueSettings, ...],
        exchanges: tuple[ExchangeSettings, ...],
        *,
        passive: bool = False,
    ) -> dict[str, str]:
        return await declare_now(self._connection.channel, queues, exchanges, passive=passive)

    def withdraw(self, publication: Publication) -> None:
        publication.on_settled = None
        if publication in self._tasks:
            self._tasks[publication].cancel()

    @property
    def heard_at(self) -> float:
        return time.monotonic()

    async def _publish(self, message: Message, publication: Publication) -> None:
        verdict: Verdict = None
        try:
            await self._transmit(message, publication)
        except (NotSent, PublishTimeout, ConnectionLost) as error:
            verdict = error  # the session has ended, or the caller has given up
        except Exception as error:  # noqa: BLE001 - translated
            verdict = publish_error(error, publication, newest=True)
            if isinstance(verdict, MessageUnroutable):
                verdict = explained(verdict, message, self._topology_errors)
        if publication.on_settled is not None:
            publication.on_settled(publication, verdict)

    async def _transmit(self, message: Message, publication: Publication) -> None:
        await self._flow_control()
        if self.closed.done():
            raise NotSent(self.closed.result())
        publication.begin_sending()
        if isinstance(publication, Request):
            await self._exchange(message, publication)
        else:
            await basic_publish(self._channel, message)

    async def _exchange(self, message: Message, request: Request) -> None:
        if self._channel.reply_queue is None:
            replies = await self._channel.declare_queue(REPLIES)
            await replies.consume(self._answer, no_ack=True)
        reply: asyncio.Future[Message] = self._loop.create_future()
        self._requests[message.correlation_id] = request, reply
        try:
            await basic_publish(self._channel, message)
            request.is_routed = True
            request.reply = Reply(await reply)
        finally:
            del self._requests[message.correlation_id]

    async def _answer(self, incoming: IncomingMessage) -> None:
        _, reply = self._requests.get(incoming.correlation_id or "", (None, None))
        if reply is not None and not reply.done():
            reply.set_result(received(incoming.properties, incoming.body))

    async def _flow_control(self) -> None:
        """Leave the loop to the subscribers, and slow down where they fall far behind.

        As RabbitMQ does. It never stops a publisher: the subscribers may wait for it.
        """
        await asyncio.sleep(0)
        if not self._server.is_congested():
            return
        async with self._flow:
            for _ in range(round(FLOW_PAUSE / FLOW_STEP)):
                if not self._server.is_congested():
                    return
                await asyncio.sleep(FLOW_STEP)

    async def close(self) -> None:
        self._server.leave(self)
        await self._connection.close()
        self._end("closed")

    def lose_from_any_thread(self) -> None:
        with suppress(RuntimeError):  # its loop is closed, and it with it
            self._loop.call_soon_threadsafe(self._end, STOPPED)

    def _end(self, why: str) -> None:
        if not self.closed.done():
            self.closed.set_result(why)
        for request, reply in self._requests.values():
            if not reply.done():
                reply.set_exception(connection_lost(request, why))
