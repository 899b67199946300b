"""A FastStream broker that is not RabbitMQ: its own connection and errors, our thread and deadlines."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from faststream_django.exceptions import BrokerUnavailable, PublishError, PublishTimeout
from faststream_django.loop.calls import GRACE, LoopStalled, LoopStopped
from faststream_django.loop.thread import LoopThread, loop_thread

if TYPE_CHECKING:
    from faststream._internal.broker import BrokerUsecase

    Broker = BrokerUsecase[Any, Any, Any]

__all__ = ["NativeConnection"]


class NativeConnection:
    """Connects a FastStream broker on the loop thread and publishes through it."""

    def __init__(
        self,
        broker: Broker | Callable[[], Broker],
        *,
        timeout: float,
        connect_timeout: float,
        shutdown_timeout: float,
        loop: LoopThread = loop_thread,
        **_: Any,
    ) -> None:
        self._given = broker
        self._pid = os.getpid()
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._shutdown_timeout = shutdown_timeout
        self._loop = loop
        self._live: _Live | None = None

    def start(self) -> None:
        """Begin to connect in the background."""
        self._loop.submit(self._begin)

    def stop(self, timeout: float | None = None) -> None:
        """Close the broker, within `timeout` seconds."""
        timeout = self._shutdown_timeout if timeout is None else timeout
        if self._live is not None and self._loop.is_started:
            try:
                self._loop.run(self._end, timeout=timeout)
            except (LoopStalled, LoopStopped):
                return

    def begin_stop(self) -> None:
        """Begin to stop, in any thread, and return at once."""
        if self._live is not None and self._loop.is_started:
            self._loop.submit(self._end)

    def publish(self, message: Any, *destination: Any, timeout: float | None, **options: Any) -> Any:
        """Return what the broker's own method returns; raise PublishError within `timeout` seconds."""
        timeout = self._timeout if timeout is None else timeout
        try:
            return self._loop.run(
                self._publish, timeout, message, destination, options, timeout=timeout + GRACE
            )
        except LoopStopped as error:
            raise BrokerUnavailable(f"the message was not sent: {error}.") from None
        except LoopStalled:
            raise PublishTimeout(
                "The loop thread does not answer; something blocks it.", maybe_sent=True
            ) from None

    async def _begin(self) -> None:
        self._here().connect()

    async def _end(self) -> None:
        live, self._live = self._live, None
        if live is not None and live.loop is asyncio.get_running_loop():
            self._loop.remove_closer(live.close)
            await live.close()

    async def _publish(
        self, timeout: float, message: Any, destination: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        live = self._here()
        sending = False
        try:
            async with asyncio.timeout(timeout):
                await live.connected()
                sending = True
                return await live.broker.publish(message, *destination, **options)
        except TimeoutError as error:
            if sending:
                raise PublishTimeout(
                    f"The broker did not answer within {timeout:g} s; it may have the message.",
                    maybe_sent=True,
                ) from error
            raise BrokerUnavailable(
                f"No connection within {timeout:g} s; the message was not sent."
            ) from error
        except PublishError:
            raise
        except Exception as error:
            raise PublishError(
                f"The broker's client failed: {type(error).__name__}: {error}. The broker may have the "
                "message.",
                maybe_sent=True,
            ) from error

    def _here(self) -> _Live:
        live = self._live
        if live is None or live.loop is not asyncio.get_running_loop():
            if not callable(self._given) and os.getpid() != self._pid:
                raise BrokerUnavailable(
                    "This process was forked and the broker belongs to its parent: pass SyncBroker a "
                    "function that makes the broker. Nothing was sent."
                )
            broker = self._given() if callable(self._given) else self._given
            live = self._live = _Live(broker, self._connect_timeout)
            self._loop.add_closer(live.close, self._shutdown_timeout)
        return live


class _Live:
    """A broker on one loop, with the one attempt to connect that all callers share."""

    def __init__(self, broker: Broker, connect_timeout: float) -> None:
        self.broker = broker
        self.loop = asyncio.get_running_loop()
        self._connect_timeout = connect_timeout
        self._connecting: asyncio.Task[None] | None = None

    def connect(self) -> asyncio.Task[None]:
        # connect() of FastStream opens a connection for each concurrent caller and leaks all but one.
        if self._connecting is None or (
            self._connecting.done() and (self._connecting.cancelled() or self._connecting.exception())
        ):
            # The connection outlives its first caller, so it keeps nothing of its context.
            self._connecting = self.loop.create_task(self._connect(), context=contextvars.Context())
        return self._connecting

    async def connected(self) -> None:
        await asyncio.shield(self.connect())

    async def close(self) -> None:
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
        await self.broker.stop()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self.broker.connect()
        except Exception as error:
            raise BrokerUnavailable(
                f"No connection ({type(error).__name__}: {error}); nothing was sent."
            ) from error
