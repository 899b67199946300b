"""The subscribers of this process, which consume from its embedded broker."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.apps import apps

from faststream_django.backends.memory.server import MemoryServer
from faststream_django.exceptions import BrokerRefused
from faststream_django.loop.thread import loop_thread
from faststream_django.worker.broker import build_broker
from faststream_django.worker.discovery import autodiscover
from faststream_django.worker.threads import HandlerThreads

if TYPE_CHECKING:
    from faststream.rabbit import RabbitBroker, RabbitRouter

    from faststream_django.backends.memory.connection import MemoryConnection
    from faststream_django.conf.entries import BrokerSettings

__all__ = ["consume_in_process"]

logger = logging.getLogger("faststream_django.worker")

SETUP_TIMEOUT = 1.0
"""Seconds to wait for Django's start: an app that publishes in ready() must not wait for itself."""


def consume_in_process() -> None:
    """Let the embedded broker deliver to the subscribers of the installed apps, in this process.

    They are imported and attached when a publisher connects to ``memory://``, those of each alias to the
    embedded broker of that alias.
    """
    MemoryServer.on_connect = _consume


@dataclass(eq=False)
class _Consumption:
    """The subscribers of this process, attached to an embedded broker."""

    server: MemoryServer
    settings: BrokerSettings
    loop: asyncio.AbstractEventLoop
    connection: MemoryConnection | None = None
    broker: RabbitBroker | None = None
    threads: HandlerThreads | None = None
    attaching: asyncio.Task[None] | None = None
    process: int = field(default_factory=os.getpid)

    def serves(self, server: MemoryServer, settings: BrokerSettings) -> bool:
        if self.server is not server or self.loop is not asyncio.get_running_loop():
            return False
        if self.settings.worker != settings.worker:
            return False
        task = self.attaching
        return task is not None and not (task.done() and (task.cancelled() or task.exception()))

    async def attach(self, previous: _Consumption | None) -> None:
        from faststream_django.backends.memory.connection import attach

        if previous is not None:
            await previous.end()
        routers = (await _autodiscover_in_thread()).get(self.settings.alias, [])
        if any(router.subscribers for router in routers):
            # No connection lingers: a database of tests is dropped as soon as they have ended.
            self.threads = HandlerThreads(self.settings.worker.concurrency, linger=0.0)
            self.broker = build_broker(self.settings, routers, self.threads)
            self.connection = await attach(self.server, self.broker)
            if loop_thread.is_current():
                # First: what the handlers publish goes through the connections that are closed after it.
                loop_thread.add_closer(self.finish, self.settings.shutdown_timeout, first=True)

    async def finish(self) -> None:
        """Take no more messages, and let the handlers that run come to their end."""
        if self.connection is not None and self.broker is not None:
            self.connection.cancel()
            await self.broker.stop()
        self._stop_threads()

    async def end(self) -> None:
        """Take no more messages.

        Handlers that run finish on their server; those of a loop that has ended give back theirs.
        What a forked child inherited is the parent's.
        """
        if self.connection is None or self.process != os.getpid():
            return
        loop_thread.remove_closer(self.finish)
        if self.loop is asyncio.get_running_loop():
            self.connection.cancel()
        else:
            await self.connection.close()
        self._stop_threads()

    def _stop_threads(self) -> None:
        if self.threads is not None:
            self.threads.stop()


_consumptions: dict[str, _Consumption] = {}
"""By alias."""


async def _consume(server: MemoryServer, settings: BrokerSettings) -> None:
    previous = _consumptions.get(settings.alias)
    if previous is not None and previous.serves(server, settings):
        consumption = previous
    else:
        consumption = _Consumption(server, settings, asyncio.get_running_loop())
        _consumptions[settings.alias] = consumption
        # It outlives a connect that is cancelled, and keeps nothing of the context of its caller.
        consumption.attaching = consumption.loop.create_task(
            consumption.attach(previous), context=contextvars.Context()
        )
    try:
        await asyncio.shield(consumption.attaching or asyncio.sleep(0))
    except Exception as error:
        logger.exception("The subscribers cannot be attached to the embedded broker")
        raise BrokerRefused(
            f"the subscribers of the installed apps do not start: {type(error).__name__}: {error}"
        ) from error


async def _autodiscover_in_thread() -> dict[str, list[RabbitRouter]]:
    """Import the apps' modules off the loop: they may take long, and use the ORM."""
    with ThreadPoolExecutor(1, thread_name_prefix="faststream_django-discovery") as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, _autodiscover_after_setup)


def _autodiscover_after_setup() -> dict[str, list[RabbitRouter]]:
    apps.ready_event.wait(SETUP_TIMEOUT)
    return autodiscover()
