"""What was committed, held against what arrived."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields

from .family import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxAccount:
    """The sums of a crash test."""

    committed: int
    found: int
    """Different messages that arrived."""
    keyed: int
    """Those of them with an ordering key."""
    lost: int
    """Committed, and never arrived."""
    strays: int
    """Arrived, and never committed."""
    breaks: int
    """First arrivals within a key before which one with a smaller number had not arrived."""
    altered: int
    """Arrived with a body that is not the one that was committed with this id."""
    left: int
    """Rows in the table at the end."""
    duplicated: int
    """Arrivals of a message that had arrived before, with its id: allowed."""
    copies: int
    """The most arrivals of one message."""

    @property
    def violations(self) -> dict[str, int]:
        """Return what must be 0 and is not."""
        promises = ("lost", "strays", "breaks", "altered", "left")
        return {name: count for name in promises if (count := getattr(self, name))}

    def __str__(self) -> str:
        return " ".join(f"{each.name}={getattr(self, each.name):,}" for each in fields(self))


def account(family: Family, arrivals: Iterable[tuple[str, bytes]]) -> OutboxAccount:
    """Add up; `arrivals` are ids and bodies in the order of the queue."""
    committed: dict[str, tuple[str, int | None, str]] = {
        message_id: (key, number, body)
        for message_id, key, number, body in family.database.execute("SELECT * FROM committed")
    }
    counts: dict[str, int] = {}
    last: dict[str, int] = {}
    altered = breaks = keyed = 0
    for message_id, body in arrivals:
        counts[message_id] = counts.get(message_id, 0) + 1
        if message_id not in committed:
            continue
        key, number, expected = committed[message_id]
        altered += json.loads(body) != json.loads(expected)
        if number is None or counts[message_id] > 1:
            continue
        keyed += 1
        # Numbers have no gaps: those of transactions that roll back are drawn again.
        breaks += number != last.get(key, 0) + 1
        last[key] = max(number, last.get(key, 0))
    return OutboxAccount(
        committed=len(committed),
        found=len(counts),
        keyed=keyed,
        lost=len(committed.keys() - counts.keys()),
        strays=len(counts.keys() - committed.keys()),
        breaks=breaks,
        altered=altered,
        left=family.left(),
        duplicated=sum(counts.values()) - len(counts),
        copies=max(counts.values(), default=0),
    )
