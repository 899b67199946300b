"""A relay that empties a table of committed messages: what its contenders have in common."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress

from benchmarks.contenders.base import Contender
from benchmarks.sample import Sample

__all__ = ["BacklogContender", "Watch"]

_PAUSE = 0.02  # seconds between two looks at the table


class BacklogContender(Contender):
    """Fills its table, which nobody measures, and then relays it in the main thread of its process."""

    def round(self) -> Sample:
        self.fill(self.workload.total)
        self._tidy_up()
        cpu_started, started = time.process_time(), time.perf_counter()
        watch = self.relay()
        return Sample(
            messages=self.workload.total,
            seconds=watch.emptied_at - started,
            cpu_seconds=watch.cpu_at - cpu_started,
            median_seconds=watch.emptied_at - started,
        )

    @abstractmethod
    def fill(self, count: int) -> None:
        """Commit that many messages, by the functions that the users of the package call."""

    @abstractmethod
    def relay(self) -> Watch:
        """Run the relay until the table is empty; tell when that was."""

    def _tidy_up(self) -> None:
        """Have the database start every round alike: nothing to vacuum, nothing to write."""
        import psycopg

        with psycopg.connect(self.addresses.database, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")


class Watch:
    """Tells when a relay was done: it says so itself, or a thread looks at its table."""

    def __init__(self) -> None:
        self.emptied_at = self.cpu_at = 0.0

    def note(self) -> None:
        self.emptied_at, self.cpu_at = time.perf_counter(), time.process_time()

    def until_empty(self, database: str, pending: str, then: Callable[[], object]) -> None:
        """Look, in a thread, until the query finds no row; then call `then`."""
        threading.Thread(target=self._look, args=(database, pending, then), daemon=True).start()

    def _look(self, database: str, pending: str, then: Callable[[], object]) -> None:
        import psycopg

        with suppress(psycopg.OperationalError), psycopg.connect(database, autocommit=True) as connection:
            while connection.execute(f"{pending} LIMIT 1").fetchone():
                time.sleep(_PAUSE)
            self.note()
        then()
