"""Where reading may begin: what is below has been sent, and nothing will appear there.

Dead entries of an index are read again and again while a snapshot is held, by pg_dump for instance; 300,000
of them cost 25 ms. Ids become visible out of order, so that the last one that was read says nothing. But once
all transactions that were under way after the sequence had given out an id have ended, that id and all before
it are visible or never will be.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from django.db import connections

from faststream_django.outbox.models import OutboxMessage, State

__all__ = ["Floor"]

PROBE_EVERY = 0.25
"""Seconds between two takings of a transaction id, while there is something to send."""
FORGOTTEN_EVERY = 60.0
"""Seconds after which all is read once more: for ids that were inserted by hand, or clocks that were set."""
UNWRITTEN = 10.0
"""Seconds that a statement which writes a row may wait before it has a transaction id."""


@dataclass(slots=True)
class _Candidate:
    """Nothing at or below these will be written by transactions younger than this one."""

    top: int
    now: float
    transaction: int


@dataclass(slots=True)
class Floor:
    """Where the reading of one broker's rows begins; on PostgreSQL only, elsewhere it stays at the start."""

    using: str
    sequence: str | None = None
    """The sequence of the ids, if the rows can be read from a floor."""
    id: int = 0
    """All rows that are READY have greater ids."""
    due: dict[State, float] = field(default_factory=lambda: {State.WAITING: 0.0, State.RETRYING: 0.0})
    """All rows in these states are due then or later."""
    _known: tuple[int, float] | None = None
    _candidates: list[_Candidate] = field(default_factory=list)
    _probed_at: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def prepare(self) -> None:
        """Find the sequence; begin anew."""
        self.forget()
        connection = connections[self.using]
        if connection.vendor != "postgresql":
            return
        table = connection.ops.quote_name(OutboxMessage._meta.db_table)  # noqa: SLF001
        with connection.cursor() as cursor:
            # Of ids that a session keeps in its cache the sequence would not know whether they are used.
            cursor.execute(
                "SELECT seqrelid::bigint FROM pg_sequence WHERE seqcache = 1 AND seqincrement > 0 "
                "AND seqrelid = pg_get_serial_sequence(%s, 'id')::regclass",
                [table],
            )
            found = cursor.fetchone()
        self.sequence = None if found is None else str(int(found[0]))

    def forget(self) -> None:
        """Read everything from the start."""
        self.id, self.due = 0, {State.WAITING: 0.0, State.RETRYING: 0.0}
        self._known, self._candidates = None, []
        self._since = time.monotonic()

    def before_reading(self) -> None:
        if self.sequence is not None and time.monotonic() > self._since + FORGOTTEN_EVERY:
            self.forget()

    def probe(self) -> None:
        """Note the transaction that is the youngest of the moment, some time after a reading."""
        now = time.monotonic()
        if self._known is None or now < self._probed_at + PROBE_EVERY:
            return
        self._probed_at = now
        with connections[self.using].cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()::text::bigint")
            transaction = cursor.fetchone()[0]
        top, moment = self._known
        self._known = None
        # The first ones can be used soonest, and the last one is worth most.
        self._candidates = [*self._candidates[:7], _Candidate(top, moment - UNWRITTEN, transaction)]

    def after_reading(
        self, now: float, oldest: int, top: int | None, first_id: int | None, first_due: dict[State, float]
    ) -> None:
        """Rise, if all transactions of a candidate had ended in the snapshot of the reading.

        `oldest` is the oldest transaction that was under way, `top` the last id of the sequence, and the
        firsts are what is left of the rows.
        """
        top = top or 0
        if top < self.id:  # the sequence was set back
            self.forget()
            return
        if self._known is None:
            self._known = (top, now)
        usable = [each for each in self._candidates if each.transaction < oldest]
        if not usable:
            return
        best = usable[-1]
        self._candidates = [each for each in self._candidates if each.transaction >= oldest]
        self.id = max(self.id, best.top if first_id is None else min(best.top, first_id - 1))
        for state, floor in self.due.items():
            self.due[state] = max(floor, min(best.now, first_due.get(state, best.now)))
