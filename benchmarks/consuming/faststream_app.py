"""FastStream alone: `python -m benchmarks.consuming.faststream_app`. Django only for the ORM."""

from __future__ import annotations

import asyncio
from typing import Any

from anyio import to_thread
from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker

from benchmarks.consuming.assignment import assignment
from benchmarks.consuming.handlers import handler

PREFETCH = 100
"""Without a limit it takes everything that is in the queue."""


def main() -> None:
    told = assignment()
    broker = RabbitBroker(
        f"{told.amqp}?heartbeat=600",  # it is stopped between the rounds
        default_channel=Channel(prefetch_count=PREFETCH),
        logger=None,
    )
    broker.subscriber(told.queue)(_with_connections_closed() if told.work == "insert" else handler())
    app = FastStream(broker, logger=None)

    @app.on_startup
    async def limit_threads() -> None:
        # Of the handlers that are functions; 40 otherwise.
        to_thread.current_default_thread_limiter().total_tokens = told.at_once

    asyncio.run(app.run())


def _with_connections_closed() -> Any:
    """Return the handler as its authors show it with Django's ORM."""
    import django
    from django.db import close_old_connections

    django.setup()
    insert = handler()

    def handle(message: dict[str, Any]) -> None:
        close_old_connections()
        try:
            insert(message)
        finally:
            close_old_connections()

    return handle


if __name__ == "__main__":
    main()
