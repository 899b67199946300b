"""The order of a batch: one message of each key at a time, and none past one that failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from faststream_django.outbox.relay.row import Row

__all__ = ["Waves", "held_back"]


def held_back(rows: Iterable[Row], blocking: dict[int, str]) -> set[str]:
    """Return the keys for which a row that was not read itself is to be sent first."""
    read = {row.id for row in rows}
    return {key for row_id, key in blocking.items() if row_id not in read}


class Waves:
    """Deals out a batch: the messages without a key in the first wave, those of a key one in each."""

    def __init__(self, rows: Collection[Row]) -> None:
        self._first = [row for row in rows if not row.ordering_key]
        self._waiting: dict[str, deque[Row]] = {}
        for row in sorted((row for row in rows if row.ordering_key), key=lambda row: row.id):
            self._waiting.setdefault(row.ordering_key, deque()).append(row)

    def next(self) -> list[Row]:
        """Return what may be sent now; nothing at the end."""
        wave, self._first = self._first, []
        return wave + [rows[0] for rows in self._waiting.values()]

    def settle(self, done: Collection[int]) -> None:
        """Let the next message of a key follow where the one in flight is done; else none of the key."""
        self._waiting = {
            key: rows for key, rows in self._waiting.items() if rows.popleft().id in done and rows
        }
