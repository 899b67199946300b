"""A consumer in a process of its own, which tells when each message arrived.

python -m benchmarks.consumer URL QUEUE

It acknowledges nothing. When its stdin ends, the messages are in the queue again, and it ends.
"""

from __future__ import annotations

import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

__all__ = ["Consumer"]

_ROOT = Path(__file__).parent.parent
_TIMEOUT = 30.0  # seconds


class Consumer:
    """The other end of its pipes."""

    def __init__(self, url: str, queue: str) -> None:
        self._arguments = [sys.executable, "-m", "benchmarks.consumer", url, queue]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            self._arguments, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=_TIMEOUT)
        if self._process.returncode:
            raise RuntimeError(f"the consumer ended with {self._process.returncode}")

    def wait(self) -> float:
        """Return when the next message arrived, on the clock of time.monotonic(), which processes share."""
        return float(self._read())

    def _read(self) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it is a pipe
        if not select.select([stdout], [], [], _TIMEOUT)[0]:
            raise RuntimeError(f"no message arrived in {_TIMEOUT:.0f} s")
        # One at a time: the pipe is never ahead of its reader, so that nothing hides in the buffer.
        return stdout.readline()


def main() -> None:
    import pika

    _, url, queue = sys.argv
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()

    def take(*_: Any) -> None:
        print(repr(time.monotonic()), flush=True)

    def wait_for_the_end() -> None:
        sys.stdin.read()
        connection.add_callback_threadsafe(channel.stop_consuming)

    channel.basic_consume(queue, take)
    print("ready", flush=True)
    threading.Thread(target=wait_for_the_end, daemon=True).start()
    # When it stops, pika has given back what was not acknowledged.
    channel.start_consuming()
    channel.basic_nack(multiple=True, requeue=True)
    channel.queue_declare(queue, passive=True)
    connection.close()


if __name__ == "__main__":
    main()
