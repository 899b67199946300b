"""The relays of a process, each on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from queue import SimpleQueue

from django.apps import apps
from django.db import connections

from faststream_django.conf.entries import broker_settings
from faststream_django.liveness import Liveness
from faststream_django.outbox.relay.relay import Relay

__all__ = ["Relays", "relay_patience"]

MARGIN = 2.0
"""Seconds beyond the lease that --once waits for another relay to leave."""


def relay_patience(pairs: Iterable[tuple[str, str]]) -> dict[Hashable, float]:
    """Return for each relay the longest time in seconds between two of its signs of life."""
    return {(using, alias): broker_settings(alias).outbox.lease for using, alias in pairs}


class Relays:
    """Starts the relays and ends them; the threads are daemons."""

    def __init__(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        batch_size: int | None = None,
        liveness: Liveness | None = None,
        once: bool = False,
    ) -> None:
        self.pairs = list(pairs)
        self.ended: SimpleQueue[tuple[str, str, str] | None] = SimpleQueue()
        """With `once`: database, broker and why not everything was sent, as soon as a relay ends. Others
        may put None, also a signal handler."""
        self._stopping = threading.Event()
        settings = [broker_settings(alias) for _, alias in self.pairs]
        self.shutdown_timeout = max((each.shutdown_timeout for each in settings), default=0.0)
        self._liveness = liveness
        self._threads = [
            threading.Thread(
                target=self._run_once if once else self._run,
                args=(pair, batch_size),
                name=f"faststream_django-relay-{pair[0]}-{pair[1]}",
                daemon=True,
            )
            for pair in self.pairs
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def begin_stop(self) -> None:
        """Have them finish what is under way and leave their leases; return at once."""
        self._stopping.set()

    def stop(self, timeout: float | None = None) -> bool:
        """Have them leave their leases; return False if that takes longer than SHUTDOWN_TIMEOUT."""
        self.begin_stop()
        deadline = time.monotonic() + (self.shutdown_timeout if timeout is None else timeout)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _relay(self, pair: tuple[str, str], batch_size: int | None) -> Relay:
        on_alive: Callable[[], None] = lambda: None  # noqa: E731
        if self._liveness:
            liveness = self._liveness

            def on_alive() -> None:
                liveness.note(pair)

        return Relay(*pair, batch_size=batch_size, on_alive=on_alive)

    def _run(self, pair: tuple[str, str], batch_size: int | None) -> None:
        apps.ready_event.wait()  # a server starts them while the apps are being loaded
        try:
            self._relay(pair, batch_size).run(self._stopping)
        finally:
            connections.close_all()

    def _run_once(self, pair: tuple[str, str], batch_size: int | None) -> None:
        relay, problem = self._relay(pair, batch_size), ""
        try:
            if not relay.run_once(self._stopping, relay.lease.seconds + MARGIN):
                problem = "another relay leads"
        except Exception as error:  # noqa: BLE001 - told by whoever waits
            problem = f"{type(error).__name__}: {error}"
        finally:
            connections.close_all()
            self.ended.put((*pair, problem))
