"""What the verbs send through."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Protocol

from faststream_django.conf.entries import BrokerSettings
from faststream_django.connection.bulk import BulkResult, Chunk, Item
from faststream_django.messages.message import Message
from faststream_django.messages.reply import Reply

__all__ = ["Sender", "aignore", "ignore"]


def ignore(chunk: Chunk) -> None:
    """Do nothing with a chunk that is done."""


async def aignore(chunk: Chunk) -> None:
    """See ignore()."""


class Sender(Protocol):
    """What the verbs need: a connection, or what stands in for it in a test."""

    settings: BrokerSettings

    @property
    def is_connected(self) -> bool: ...
    def start(self) -> None: ...
    def declare(
        self, queues: Any = ..., exchanges: Any = ..., *, timeout: float | None = ..., passive: bool = ...
    ) -> None: ...
    async def adeclare(
        self, queues: Any = ..., exchanges: Any = ..., *, timeout: float | None = ..., passive: bool = ...
    ) -> None: ...
    def send(self, message: Message, timeout: float | None = None) -> None: ...
    async def asend(
        self,
        message: Message,
        timeout: float | None = None,
        caller: object = None,
        *,
        processed: bool = ...,
    ) -> None: ...
    def request(self, message: Message, timeout: float | None = None) -> Reply: ...
    async def arequest(
        self, message: Message, timeout: float | None = None, *, processed: bool = ...
    ) -> Reply: ...
    def send_many(
        self,
        items: Iterable[Item],
        timeout: float | None = None,
        on_settled: Callable[[Chunk], None] = ...,
    ) -> BulkResult: ...
    async def asend_many(
        self,
        items: AsyncIterable[Item],
        timeout: float | None = None,
        on_settled: Callable[[Chunk], Awaitable[None]] = ...,
    ) -> BulkResult: ...
