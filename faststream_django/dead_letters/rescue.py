"""Puts back what no queue has: the broker acknowledged it, and its target did not take it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from faststream_django.backends.operating import OperationRefused, OperatorSession, QueuedMessage
from faststream_django.conf.entries import BrokerSettings
from faststream_django.dead_letters.sessions import operator_session
from faststream_django.exceptions import BrokerUnavailable

__all__ = ["put_back"]

PATIENCE = 120.0
"""Seconds after which a broker that takes nothing is given up."""
PAUSE = 0.5


async def put_back(
    settings: BrokerSettings, session: OperatorSession, queue: str, message: QueuedMessage
) -> str:
    """Publish a message into its queue; return "" once the broker has confirmed it, or why it did not.

    If the session fails, others are made for as long as it is worth while: this process alone has it.
    """
    deadline = time.monotonic() + PATIENCE
    reason = ""
    with suppress(BrokerUnavailable, OperationRefused):
        await session.put(message, queue)
        return ""
    while time.monotonic() < deadline:
        try:
            async with operator_session(settings) as another:
                await another.put(message, queue)
        except (BrokerUnavailable, OperationRefused) as error:
            reason = str(error)
            await asyncio.sleep(PAUSE)
        else:
            return ""
    return reason
