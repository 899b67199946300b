"""Runs the subscribers of the installed apps on RabbitMQ until a signal stops them, gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, cast

from faststream_django.connection.current_urls import CurrentURLs
from faststream_django.exceptions import BrokerRefused, BrokerUnavailable
from faststream_django.worker.broker import build_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from faststream.rabbit import RabbitBroker, RabbitRouter
    from faststream.rabbit.subscriber import RabbitSubscriber

    from faststream_django.conf.entries import BrokerSettings

__all__ = ["Worker"]

logger = logging.getLogger("faststream_django.worker")

FIRST_DELAY, LAST_DELAY = 0.5, 5.0
"""Seconds between the rounds of attempts to connect, doubled with each failed round."""

STOP_GRACE = 1.0
"""Seconds to close the connection, once the handlers had their SHUTDOWN_TIMEOUT."""


class Worker:
    """Consumes from one broker for these routers."""

    def __init__(self, settings: BrokerSettings, routers: Iterable[RabbitRouter]) -> None:
        self.settings = settings
        self._routers = tuple(routers)
        self._stopping = asyncio.Event()
        self._urls = CurrentURLs(settings)
        self._nodes = 1
        self._broker: RabbitBroker | None = None

    @property
    def queues(self) -> list[str]:
        """The names of the queues that are consumed."""
        return sorted(
            {
                f"{subscriber._outer_config.prefix}{subscriber.queue.name}"  # noqa: SLF001
                for router in self._routers
                for subscriber in cast("list[RabbitSubscriber]", router.subscribers)
            }
        )

    def exit(self) -> None:
        """Begin to stop. FastStream calls it when a handler raises SystemExit."""
        self._stopping.set()

    async def run(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Consume until SIGTERM or SIGINT; wait for a broker that is down.

        Raise BrokerRefused if it does not want us: credentials, virtual host, TLS.
        """
        with _signals(self.exit):
            broker = await self._start()
            if broker is None:
                return
            if not self._stopping.is_set():
                on_started()
            await self._stopping.wait()
        # Without our signal handlers from here on: a second signal ends the process at once.
        await self._stop(broker)

    async def _start(self) -> RabbitBroker | None:
        """Return the consuming broker, or None if a signal came first."""
        for number in itertools.count():
            if number and number % self._nodes == 0:
                rounds = number // self._nodes
                await self._unless_stopping(
                    asyncio.sleep(min(FIRST_DELAY * 2.0 ** min(rounds - 1, 10), LAST_DELAY))
                )
            if self._stopping.is_set():
                break
            try:
                await self._unless_stopping(self._attempt(number))
            except BrokerRefused:
                raise
            except BrokerUnavailable as error:
                self._broker = None
                if number == 0:
                    logger.warning("broker=%s state=waiting reason=%r", self.settings.alias, str(error))
            else:
                break
        return self._broker

    async def _attempt(self, number: int) -> None:
        self._nodes, self._broker = 1, None
        urls = await self._read_urls()
        self._nodes = len(urls)
        url = urls[number % len(urls)]
        broker = self._broker = build_broker(self.settings, self._routers, url)
        broker.context.set_global("app", self)
        if self.settings.url_source is not None:
            broker._connection_kwargs["connection_class"] = _connection_class(self._read_urls)  # noqa: SLF001
        await _start(broker, self.settings, url)

    async def _read_urls(self) -> tuple[str, ...]:
        timeout = self.settings.connect_timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._urls.read()
        except TimeoutError:
            raise BrokerUnavailable(
                f"no answer of the function for URL or PASSWORD within CONNECT_TIMEOUT ({timeout:g} s)"
            ) from None

    async def _stop(self, broker: RabbitBroker) -> None:
        timeout = self.settings.shutdown_timeout + STOP_GRACE
        try:
            async with asyncio.timeout(timeout):
                await broker.stop()
        except TimeoutError:
            logger.warning("broker=%s state=abandoned after=%.1fs", self.settings.alias, timeout)

    async def _unless_stopping(self, step: Coroutine[Any, Any, None]) -> None:
        """Await the step; give it up when the worker is told to stop."""
        running = asyncio.ensure_future(step)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            stopping.cancel()
            running.cancel()


async def _start(broker: RabbitBroker, settings: BrokerSettings, url: str) -> None:
    """Declare what the settings declare, then start the subscribers.

    Our own backend goes first: it names the reason when the broker refuses a connection.
    """
    from aiormq.exceptions import ChannelClosed

    from faststream_django.backends.rabbit.backend import RabbitBackend
    from faststream_django.backends.rabbit.errors import connect_error, drop_frames

    timeout = settings.connect_timeout
    try:
        async with asyncio.timeout(timeout):
            session = await RabbitBackend(settings).connect(url)
        # Its turn comes once all that the settings name has been declared, however long that takes.
        await session.declare((), ())
        await session.close()
        await broker.start()
    except TimeoutError:
        raise BrokerUnavailable(f"no AMQP connection within CONNECT_TIMEOUT ({timeout:g} s)") from None
    except ChannelClosed as error:
        await broker.stop()
        raise BrokerRefused(f"a queue or exchange of the subscribers is refused: {error}") from error
    except BrokerUnavailable:
        await broker.stop()
        raise
    except Exception as error:
        await broker.stop()
        drop_frames(error)
        raise connect_error(error) from error


def _connection_class(read_urls: Callable[[], Coroutine[Any, Any, tuple[str, ...]]]) -> type[Any]:
    """Return a class of aio-pika's connection that logs in anew with the credentials of the moment."""
    from aio_pika import RobustConnection
    from yarl import URL

    class Connection(RobustConnection):
        # The private method that every attempt goes through (aio-pika 10.2); there is no public place.
        async def _RobustConnection__connect_transport(self) -> None:  # noqa: N802
            given = URL((await read_urls())[0])
            self.url = self.url.with_user(given.user).with_password(given.password)
            await super()._RobustConnection__connect_transport()  # type: ignore[misc]

    return Connection


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
