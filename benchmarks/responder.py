"""Answers requests, in a process of its own: the same for everybody who asks.

python -m benchmarks.responder URL QUEUE SECONDS

It is a handler of FastStream in a loop, which returns what it gets after so many seconds. It ends when its
stdin does.
"""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

__all__ = ["Responder"]

_ROOT = Path(__file__).parent.parent
_TIMEOUT = 30.0  # seconds
_PREFETCH = 500


class Responder:
    """The other end of its pipes."""

    def __init__(self, url: str, queue: str, seconds: float) -> None:
        self._arguments = [sys.executable, "-m", "benchmarks.responder", url, queue, str(seconds)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            self._arguments, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it is a pipe
        if not select.select([stdout], [], [], _TIMEOUT)[0] or not stdout.readline():
            raise RuntimeError(f"the responder was not ready within {_TIMEOUT:.0f} s")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=_TIMEOUT)
        if self._process.returncode:
            raise RuntimeError(f"the responder ended with {self._process.returncode}")


async def main() -> None:
    from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

    _, url, queue, seconds = sys.argv
    broker = RabbitBroker(url, default_channel=Channel(prefetch_count=_PREFETCH), logger=None)

    @broker.subscriber(RabbitQueue(queue, durable=True))
    async def answer(message: dict[str, Any]) -> dict[str, Any]:
        if float(seconds):
            await asyncio.sleep(float(seconds))
        return message

    await broker.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await broker.stop()


if __name__ == "__main__":
    asyncio.run(main())
