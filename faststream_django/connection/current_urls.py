"""The URLs of an alias at this moment, also where the settings have them read by a function that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from faststream_django.conf.entries import BrokerSettings
from faststream_django.exceptions import BrokerUnavailable
from faststream_django.loop.gevent import native_threads

__all__ = ["CurrentURLs"]

Outcome = tuple[str, ...] | BrokerUnavailable


class CurrentURLs:
    """Reads the URLs of an alias for each connection, off the loop."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._reading: asyncio.Future[Outcome] | None = None

    @property
    def is_reading(self) -> bool:
        """Whether the function of the settings has not returned yet."""
        return self._reading is not None and not self._reading.done()

    async def read(self) -> tuple[str, ...]:
        """Return the URLs; raise BrokerUnavailable if the function fails.

        It runs in a daemon thread: one that hangs keeps neither the loop nor the exit waiting, and is not
        called again meanwhile. How long to wait for it is up to the caller.
        """
        source = self._settings.url_source
        if source is None:
            return self._settings.urls
        if self._reading is None or self._reading.done():
            self._reading = _in_a_thread(source)
        outcome = await asyncio.shield(self._reading)
        if isinstance(outcome, BrokerUnavailable):
            raise outcome
        return outcome


def _in_a_thread(source: Callable[[], tuple[str, ...]]) -> asyncio.Future[Outcome]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Outcome] = loop.create_future()

    def read() -> None:
        outcome: Outcome = BrokerUnavailable("the function for the URL or the password ended its thread")
        try:
            outcome = source()
        except BrokerUnavailable as error:
            outcome = error
        finally:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_settle, future, outcome)

    try:
        native_threads().make_thread(read, "faststream_django-url").start()
    except RuntimeError as error:
        future.set_result(BrokerUnavailable(f"no thread to read the URL in: {error}"))
    return future


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
