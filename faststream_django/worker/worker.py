"""Runs the subscribers of the installed apps on RabbitMQ until a signal stops them, gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from faststream_django.worker.consumer import Consumer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from faststream.rabbit import RabbitRouter

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["Worker"]


class Worker:
    """Consumes from one broker for these routers."""

    def __init__(self, settings: BrokerSettings, routers: Iterable[RabbitRouter]) -> None:
        self.settings = settings
        self._consumer = Consumer(settings, routers)
        self._stopping = asyncio.Event()

    @property
    def queues(self) -> list[str]:
        """The names of the queues that are consumed."""
        return self._consumer.queues

    def exit(self) -> None:
        """Begin to stop. FastStream calls it when a handler raises SystemExit."""
        self._stopping.set()

    async def run(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Consume until SIGTERM or SIGINT; wait for a broker that is down.

        Raise BrokerRefused if it does not want us: credentials, virtual host, TLS.
        """
        consumer = self._consumer
        consumer.broker.context.set_global("app", self)
        with _signals(self.exit):
            starting = asyncio.ensure_future(consumer.start())
            stopping = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait([starting])
                return
            stopping.cancel()
            starting.result()
            on_started()
            await self._stopping.wait()
        # Without our signal handlers from here on: a second signal ends the process at once.
        await consumer.finish(self.settings.shutdown_timeout)


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT; only the main thread can."""
    loop = asyncio.get_running_loop()
    handled = [signal.SIGTERM, signal.SIGINT]
    if threading.current_thread() is not threading.main_thread():
        handled = []
    for number in handled:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
