"""asyncio's event loop, with names resolved on daemon threads. Knows neither Django nor FastStream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["EventLoop"]

T = TypeVar("T")


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop that resolves names on a daemon thread for each.

    The pool of threads that asyncio has for it is joined at exit, however long the resolver hangs.
    """

    def __init__(self, selector: Any, original: Callable[[str, str], Any]) -> None:
        super().__init__(selector)
        self._start_thread = original("_thread", "start_new_thread")
        self._getaddrinfo = original("socket", "getaddrinfo")

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return await self._in_thread(self._getaddrinfo, host, port, family, type, proto, flags)

    def _in_thread(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        self._start_thread(self._work, (future, function, args))
        return future

    def _work(self, future: asyncio.Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
        settle: Callable[[Any], None]
        outcome: Any
        try:
            settle, outcome = future.set_result, function(*args)
        except BaseException as error:  # noqa: BLE001 - the one who awaits it decides
            settle, outcome = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(_unless_done, future, settle, outcome)


def _unless_done(future: asyncio.Future[T], settle: Callable[[Any], None], outcome: Any) -> None:
    if not future.done():
        settle(outcome)
