"""Answers requests, in a process of its own: the same for everybody who asks.

python -m benchmarks.responder URL QUEUE SECONDS

It sends each request back after so many seconds, with as little work as aiormq allows: it is not what is
measured. It ends when its stdin does.
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
    import aiormq

    _, url, queue, seconds = sys.argv
    connection = await aiormq.connect(url)
    channel = await connection.channel(publisher_confirms=False)
    delay = float(seconds)

    async def answer(message: Any) -> None:
        if delay:
            await asyncio.sleep(delay)
        given = message.header.properties
        properties = aiormq.spec.Basic.Properties(
            correlation_id=given.correlation_id, content_type=given.content_type
        )
        await channel.basic_publish(
            message.body, routing_key=given.reply_to, properties=properties, wait=False
        )

    await channel.basic_consume(queue, answer, no_ack=True)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
