"""Callers of every kind that publish distinct messages through one connection, at a bounded rate."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self

from faststream_django.connection import Connection
from faststream_django.exceptions import BrokerUnavailable
from faststream_django.messages import Message
from tests.nodes import Ledger

CALLERS = 8
BULK = 20  # messages in one send_many, about what a transaction publishes
HANG_AFTER = 10.0  # seconds past the timeout; who is not back by then never will be

MakeMessage = Callable[[], Message]


def to(*queues: str, exchange: str = "", prefix: str = "m") -> MakeMessage:
    """Return a maker of small persistent messages with ids of their own, to the queues in turn."""
    numbers, targets = itertools.count(), itertools.cycle(queues)
    return lambda: Message.encode(
        b"x", exchange=exchange, routing_key=next(targets), message_id=f"{prefix}{next(numbers)}"
    )


class Load:
    """Publishes from `callers` threads or tasks until the block of code ends; each `rate` times a second.

    `kind` is threads (send), tasks (asend) or bulk (send_many).
    """

    def __init__(
        self,
        connection: Connection,
        ledger: Ledger,
        make: MakeMessage,
        *,
        kind: str = "threads",
        callers: int = CALLERS,
        rate: float = 100.0,
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._make = make
        self._pause = 1 / rate
        self._ending = threading.Event()
        if kind == "tasks":
            targets: Sequence[tuple[Callable[..., None], int]] = [(self._run_tasks, callers)]
        else:
            caller = self._send if kind == "threads" else self._send_many
            targets = [(self._repeat, caller)] * callers
        self._threads = [
            threading.Thread(target=target, args=(argument,), daemon=True) for target, argument in targets
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Let each caller finish; those who hang stay open in the ledger."""
        self._ending.set()
        deadline = time.monotonic() + self._connection.settings.timeout + HANG_AFTER
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _repeat(self, publish: Callable[[], None]) -> None:
        while not self._ending.is_set():
            started = time.monotonic()
            publish()
            self._ending.wait(self._pause - (time.monotonic() - started))

    def _send(self) -> None:
        message = self._make()
        with self._ledger.attempt(message.message_id):
            self._connection.send(message)

    def _send_many(self) -> None:
        send_many(self._connection, self._ledger, [self._make() for _ in range(BULK)])

    def _run_tasks(self, callers: int) -> None:
        asyncio.run(self._gather(callers))

    async def _gather(self, callers: int) -> None:
        await asyncio.gather(*(self._repeat_asend() for _ in range(callers)))

    async def _repeat_asend(self) -> None:
        while not self._ending.is_set():
            started = time.monotonic()
            message = self._make()
            with self._ledger.attempt(message.message_id):
                await self._connection.asend(message)
            await asyncio.sleep(self._pause - (time.monotonic() - started))


def send_many(connection: Connection, ledger: Ledger, messages: list[Message]) -> None:
    """Send a bulk and note what came of each message."""
    for message in messages:
        ledger.begin(message.message_id)
    result = connection.send_many(messages)
    for index, message in enumerate(messages):
        error = result.errors.get(index)
        if error is None and result.stopped_at is not None and index >= result.stopped_at:
            error = BrokerUnavailable("not even tried")
        ledger.end(message.message_id, error)


def share(numbers: Iterable[int], parts: int) -> Iterator[list[int]]:
    """Deal numbers out to so many callers."""
    dealt = list(numbers)
    for part in range(parts):
        yield dealt[part::parts]
