"""For ASGI servers: start and stop the brokers with the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from faststream_django.apps import start_brokers
from faststream_django.loop.thread import loop_thread

__all__ = ["with_lifespan"]

logger = logging.getLogger("faststream_django")

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Event, Receive, Send], Awaitable[None]]


def with_lifespan(application: Application) -> Application:
    """Return the application with ASGI's lifespan protocol, which tells it when the server starts and stops.

    On startup it begins to connect to the brokers with AUTOSTART, without waiting for them. On shutdown,
    within the longest SHUTDOWN_TIMEOUT, the messages in flight are settled, running handlers of the
    embedded broker finish, and the connections are closed. A server that does not run Python's exit
    handlers on SIGTERM, such as uvicorn, would otherwise cut all this short.

    An application with its own lifespan keeps it: it starts after the brokers and stops before them. If it
    raises when it is called for its lifespan, as Django's does, it has none. Everything else is passed on
    unchanged.
    """

    async def application_with_lifespan(scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(receive, send).run(application, scope)
        else:
            await application(scope, receive, send)

    return application_with_lifespan


class _Lifespan:
    """One conversation with the server about the start and the end, led by the application if it can."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._has_begun = self._has_answered = False

    async def run(self, application: Application, scope: Event) -> None:
        try:
            await application(scope, self._receive_event, self._send_event)
        except Exception as error:
            if self._has_answered:
                raise
            # The protocol's way to say that there is none.
            logger.debug("The application has no lifespan of its own: %s", type(error).__name__)
        if not self._has_answered:
            await self._answer()

    async def _answer(self) -> None:
        if not self._has_begun:
            await self._receive_event()
        await self._send_event({"type": "lifespan.startup.complete"})
        await self._receive_event()
        await self._send_event({"type": "lifespan.shutdown.complete"})

    async def _receive_event(self) -> Event:
        event = await self._receive()
        self._has_begun = True
        if event["type"] == "lifespan.startup":
            start_brokers()
        return event

    async def _send_event(self, event: Event) -> None:
        self._has_answered = True
        if event["type"].startswith("lifespan.shutdown."):
            await asyncio.to_thread(loop_thread.stop)
        await self._send(event)
