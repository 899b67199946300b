"""A connection for as long as an operator needs one: over the URLs of an alias, each with its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faststream_django.backends.operating import OperatorSession
from faststream_django.conf.entries import BrokerSettings
from faststream_django.connection.current_urls import CurrentURLs
from faststream_django.exceptions import BrokerUnavailable
from faststream_django.registry import make_backend

__all__ = ["operator_session"]


@asynccontextmanager
async def operator_session(settings: BrokerSettings) -> AsyncIterator[OperatorSession]:
    """Connect to the first node that takes us; raise BrokerUnavailable with the reason of the last one."""
    session = await _connect(settings)
    try:
        yield session
    finally:
        await session.close()


async def _connect(settings: BrokerSettings) -> OperatorSession:
    backend = make_backend(settings)
    urls, timeout = CurrentURLs(settings), settings.connect_timeout
    problem = BrokerUnavailable("FASTSTREAM names no URL")
    try:
        async with asyncio.timeout(timeout):
            current = await urls.read()
    except TimeoutError:
        raise BrokerUnavailable(
            f"no answer of the function for URL or PASSWORD within CONNECT_TIMEOUT ({timeout:g} s)"
        ) from None
    for url in current:
        try:
            async with asyncio.timeout(timeout):
                return await backend.operate(url)
        except TimeoutError:
            problem = BrokerUnavailable(f"no AMQP connection within CONNECT_TIMEOUT ({timeout:g} s)")
        except BrokerUnavailable as error:
            problem = error
    raise problem
