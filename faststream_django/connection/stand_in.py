"""Stands in for a connection in tests: nothing is sent."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any

from faststream_django.async_unsafe import refuse_event_loop
from faststream_django.conf.entries import BrokerSettings
from faststream_django.connection.bulk import Bulk, BulkResult, Chunk, Item
from faststream_django.connection.declaring import read_wanted
from faststream_django.connection.sender import aignore, ignore
from faststream_django.exceptions import PublishError
from faststream_django.messages.message import Message
from faststream_django.messages.reply import Reply

__all__ = ["StandIn"]


class StandIn:
    """Confirms every message of one alias at once, after `on_send` has seen it with the timeout.

    What `on_send` raises is what the message fails with. Requests get the reply that `on_request` makes.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        on_send: Callable[[Message, float | None], None] | None = None,
        on_request: Callable[[Message], Reply] | None = None,
    ) -> None:
        self.settings = settings
        self._on_send = on_send
        self._on_request = on_request

    @property
    def is_connected(self) -> bool:
        """Always true, as what is sent is always confirmed."""
        return True

    def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def declare(
        self,
        queues: Any = None,
        exchanges: Any = None,
        *,
        timeout: float | None = None,
        passive: bool = False,  # noqa: ARG002
    ) -> None:
        """Validate, and declare nothing."""
        read_wanted(self.settings, queues, exchanges, timeout)
        refuse_event_loop()

    async def adeclare(
        self,
        queues: Any = None,
        exchanges: Any = None,
        *,
        timeout: float | None = None,
        passive: bool = False,  # noqa: ARG002
    ) -> None:
        """See declare()."""
        read_wanted(self.settings, queues, exchanges, timeout)

    def send(self, message: Message, timeout: float | None = None) -> None:
        if self._on_send is not None:
            self._on_send(message, timeout)

    async def asend(
        self,
        message: Message,
        timeout: float | None = None,
        caller: object = None,  # noqa: ARG002
        *,
        processed: bool = False,  # noqa: ARG002
    ) -> None:
        self.send(message, timeout)

    def request(self, message: Message, timeout: float | None = None) -> Reply:
        self.send(message, timeout)
        if self._on_request is None:
            raise RuntimeError(
                f"A test run sends nothing, so the request to {message.destination} has no reply. Give one "
                "with capture_messages(reply_with=...), or let the test use its broker with real_brokers()."
            )
        return self._on_request(message)

    async def arequest(
        self,
        message: Message,
        timeout: float | None = None,
        *,
        processed: bool = False,  # noqa: ARG002
    ) -> Reply:
        return self.request(message, timeout)

    def send_many(
        self,
        items: Iterable[Item],
        timeout: float | None = None,
        on_settled: Callable[[Chunk], None] = ignore,
    ) -> BulkResult:
        bulk = Bulk(self.settings.alias)
        for chunk in bulk.chunks(items):
            on_settled(bulk.settle(self._sent(chunk, timeout)))
        return bulk.result

    async def asend_many(
        self,
        items: AsyncIterable[Item],
        timeout: float | None = None,
        on_settled: Callable[[Chunk], Awaitable[None]] = aignore,
    ) -> BulkResult:
        bulk = Bulk(self.settings.alias)
        async for chunk in bulk.achunks(items):
            await on_settled(bulk.settle(self._sent(chunk, timeout)))
        return bulk.result

    def _sent(self, chunk: Chunk, timeout: float | None) -> Chunk:
        for publication in chunk.publications:
            try:
                self.send(publication.message, timeout)
            except PublishError as error:
                chunk.errors[publication.index] = error
        return chunk
