"""A relay of ours in a process of its own, as a site runs it.

python -m benchmarks.relaying AMQP_URL DATABASE_URL
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Self

from benchmarks.addresses import Addresses
from benchmarks.django_site import configure
from tests.nodes import OwnedProcess

__all__ = ["RelayProcess"]

_ROOT = Path(__file__).parent.parent
_START_TIMEOUT = 15.0


class RelayProcess:
    """Leads from the beginning of the block to its end; ends with the process that started it."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self._process = OwnedProcess(
            [sys.executable, "-m", "benchmarks.relaying", self._addresses.amqp, self._addresses.database],
            env=os.environ,
            directory=_ROOT,
            log=Path(self._folder.name) / "relay.log",
        )
        self._process.wait_until(_is_led, timeout=_START_TIMEOUT, what="The relay")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send(signal.SIGTERM)
        self._process.wait(_START_TIMEOUT)
        self._folder.cleanup()


def _is_led() -> bool:
    from faststream_django.outbox.models import Lease

    return Lease.objects.exclude(holder="").exists()


def main() -> None:
    _, amqp, database = sys.argv
    configure(amqp, database=database, apps=("faststream_django.outbox",), ON_COMMIT="outbox")

    from faststream_django import brokers
    from faststream_django.outbox.relay.relay import Relay

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    Relay("default", "default").run(stopping)
    brokers.stop()


if __name__ == "__main__":
    main()
