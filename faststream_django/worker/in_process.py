"""FastStream's subscribers in Django apps: ``<app>/subscribers.py`` with FastStream's own routers.

A worker runs them on RabbitMQ; on the embedded broker the process that publishes runs them itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.apps import apps
from django.db import close_old_connections
from django.utils.module_loading import module_has_submodule

from faststream_django.backends.memory.server import MemoryServer
from faststream_django.conf.entries import broker_aliases, broker_settings
from faststream_django.exceptions import BrokerRefused
from faststream_django.loop.thread import loop_thread
from faststream_django.worker.discreet_logger import DiscreetLogger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from faststream.rabbit import RabbitBroker, RabbitRouter

    from faststream_django.backends.memory.connection import MemoryConnection
    from faststream_django.conf.entries import BrokerSettings

__all__ = ["PREFETCH", "autodiscover", "build_broker", "consume_in_process"]

logger = logging.getLogger("faststream_django.worker")

PREFETCH = 10
"""Messages that a subscriber has in hand at most; one with a `Channel` of its own sets its own."""

SETUP_TIMEOUT = 1.0
"""Seconds to wait for Django's start: an app that publishes in ready() must not wait for itself."""


def autodiscover() -> list[RabbitRouter]:
    """Import ``subscribers`` of every installed app; return the routers at module level, in order.

    A router that is included in another one comes with that one. Whatever a module raises when it
    is imported is raised here.
    """
    from faststream.rabbit import RabbitRouter

    found: dict[int, RabbitRouter] = {}
    for app in apps.get_app_configs():
        if not module_has_submodule(app.module, "subscribers"):
            continue
        module = import_module(f"{app.name}.subscribers")
        for value in vars(module).values():
            if isinstance(value, RabbitRouter) and not isinstance(value.parent, RabbitRouter):
                found.setdefault(id(value), value)
    return list(found.values())


def build_broker(
    settings: BrokerSettings, routers: Iterable[RabbitRouter], url: str | None = None
) -> RabbitBroker:
    """Return a FastStream broker that consumes for these routers, safe for Django's ORM.

    A router belongs to one broker at a time: it leaves the one that it was built into before.
    """
    from faststream._internal.di import FastDependsConfig
    from faststream.rabbit import Channel, RabbitBroker

    options: dict[str, Any] = {
        "logger": logger,  # FastStream's own would write to stdout
        "log_level": logging.DEBUG,
        "graceful_timeout": settings.shutdown_timeout,
        **settings.options,
    }
    if options["logger"] is not None:
        options["logger"] = DiscreetLogger(options["logger"])
    options["client_properties"] = {
        "heartbeat": settings.heartbeat,
        **options.get("client_properties", {}),
    }
    broker = RabbitBroker(
        url or next(iter(settings.urls), "amqp://"),
        timeout=settings.connect_timeout,
        default_channel=Channel(prefetch_count=PREFETCH),
        routers=routers,
        **options,
    )
    # The only place that runs in the thread of a sync handler: a middleware runs on the loop.
    clean_up = partial(_clean_up, ThreadSensitiveContext())
    broker._update_fd_config(FastDependsConfig(call_decorators=(clean_up,)))  # noqa: SLF001
    return broker


def consume_in_process() -> None:
    """Let the embedded broker deliver to the subscribers of the installed apps, in this process.

    They are imported and attached when a publisher connects to ``memory://``. Of several embedded
    brokers they consume from the one of ``default``, or else of the first alias that has one.
    """
    MemoryServer.on_connect = _consume


@dataclass(eq=False)
class _Consumption:
    """The subscribers of this process, attached to an embedded broker."""

    server: MemoryServer
    loop: asyncio.AbstractEventLoop
    connection: MemoryConnection | None = None
    broker: RabbitBroker | None = None
    attaching: asyncio.Task[None] | None = None
    process: int = field(default_factory=os.getpid)

    def serves(self, server: MemoryServer) -> bool:
        if self.server is not server or self.loop is not asyncio.get_running_loop():
            return False
        task = self.attaching
        return task is not None and not (task.done() and (task.cancelled() or task.exception()))

    async def attach(self, settings: BrokerSettings, previous: _Consumption | None) -> None:
        from faststream_django.backends.memory.connection import attach

        if previous is not None:
            await previous.end()
        routers = await _autodiscover_in_thread()
        if any(router.subscribers for router in routers):
            self.broker = build_broker(settings, routers)
            self.connection = await attach(self.server, self.broker)
            if loop_thread.is_current():
                loop_thread.add_closer(self.finish, settings.shutdown_timeout)

    async def finish(self) -> None:
        """Take no more messages, and let the handlers that run come to their end."""
        if self.connection is not None and self.broker is not None:
            self.connection.cancel()
            await self.broker.stop()

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


_consumption: _Consumption | None = None


async def _consume(server: MemoryServer, settings: BrokerSettings) -> None:
    global _consumption
    if server is not _consumed_server():
        return
    if _consumption is None or not _consumption.serves(server):
        previous, _consumption = (
            _consumption,
            _Consumption(server, asyncio.get_running_loop()),
        )
        # It outlives a connect that is cancelled, and keeps nothing of the context of its caller.
        _consumption.attaching = _consumption.loop.create_task(
            _consumption.attach(settings, previous), context=contextvars.Context()
        )
    try:
        await asyncio.shield(_consumption.attaching or asyncio.sleep(0))
    except Exception as error:
        logger.exception("The subscribers cannot be attached to the embedded broker")
        raise BrokerRefused(
            f"the subscribers of the installed apps do not start: {type(error).__name__}: {error}"
        ) from error


def _consumed_server() -> MemoryServer | None:
    aliases = sorted(broker_aliases(), key=lambda alias: alias != "default")
    for alias in aliases:
        settings = broker_settings(alias)
        if settings.is_embedded:
            return MemoryServer.get(settings.urls[0])
    return None


async def _autodiscover_in_thread() -> list[RabbitRouter]:
    """Import the apps' modules off the loop: they may take long, and use the ORM."""
    with ThreadPoolExecutor(1, thread_name_prefix="faststream_django-discovery") as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, _autodiscover_after_setup)


def _autodiscover_after_setup() -> list[RabbitRouter]:
    apps.ready_event.wait(SETUP_TIMEOUT)
    return autodiscover()


def _clean_up(orm_thread: ThreadSensitiveContext, handler: Callable[..., Any]) -> Callable[..., Any]:
    """Close Django's stale connections around the handler, in the thread that uses them.

    What a request does with its signals. A connection inside an atomic block is left alone.
    """
    from fast_depends.utils import is_coroutine_callable

    if is_coroutine_callable(handler):
        return _clean_up_async(orm_thread, handler)

    @wraps(handler)
    def run(*args: Any, **kwargs: Any) -> Any:
        close_old_connections()
        try:
            return handler(*args, **kwargs)
        finally:
            close_old_connections()

    return run


def _clean_up_async(
    orm_thread: ThreadSensitiveContext, handler: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def clean_up() -> None:
        # No thread yet: no handler has used the ORM, and a hop to a thread costs more than most messages.
        if orm_thread in SyncToAsync.context_to_thread_executor:
            await sync_to_async(close_old_connections)()

    @wraps(handler)
    async def run(*args: Any, **kwargs: Any) -> Any:
        # The ORM of all async handlers runs in one thread, as asgiref does it, but not in asgiref's
        # common one: that belongs to the views, and a forked child waits for it for ever.
        token = SyncToAsync.thread_sensitive_context.set(orm_thread)
        try:
            await clean_up()
            try:
                result = await handler(*args, **kwargs)
            except Exception:
                await clean_up()
                raise
            await clean_up()  # not after a cancellation: the process may be ending, without threads
            return result
        finally:
            SyncToAsync.thread_sensitive_context.reset(token)

    return run
