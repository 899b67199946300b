"""Which relay leads: the holder of the lease row, by the clock of the database."""

from __future__ import annotations

import math
import os
import secrets
import socket
import time
from typing import Any

from django.db import connections

from faststream_django.outbox.engines import clock
from faststream_django.outbox.models import Lease as LeaseRow
from faststream_django.outbox.wakeup import LEASES, notify

__all__ = ["Lease"]

PARTS = 3
"""The lease is renewed so many times before it would expire."""


class Lease:
    """The right of one relay to send the messages of one broker from one database.

    What is known here is on the safe side: the time is counted from before the statement that renewed it.
    """

    def __init__(self, using: str, alias: str, seconds: float) -> None:
        self._using = using
        self._alias = alias
        self.seconds = seconds
        self.holder = f"{socket.gethostname()[:200]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._expires_at = self._renewed_at = -math.inf

    @property
    def seconds_left(self) -> float:
        return self._expires_at - time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it."""
        return time.monotonic() >= self._renewed_at + self.seconds / PARTS

    def prepare(self) -> None:
        """Make the row, unless it is there."""
        LeaseRow.objects.using(self._using).bulk_create([LeaseRow(broker=self._alias)], ignore_conflicts=True)

    def renew(self) -> bool:
        """Take the lease or keep it; return False if another relay holds it."""
        now, began = clock(connections[self._using]), time.monotonic()
        is_held = self._update(
            {"holder": "%s", "expires_at": f"{now} + %s", "seen_at": now},
            [self.holder, self.seconds],
            f"({{holder}} = %s OR {{expires_at}} < {now})",
        )
        self._renewed_at = began
        self._expires_at = began + self.seconds if is_held else -math.inf
        return is_held

    def release(self) -> None:
        """Leave it to another relay at once."""
        self._expires_at = -math.inf
        if self._update({"holder": "%s", "expires_at": "0"}, [""], "{holder} = %s"):
            notify(self._using, [self._alias], LEASES)

    def doubt(self) -> None:
        """Have it renewed before anything else."""
        self._renewed_at = -math.inf

    def condition(self) -> tuple[str, list[Any]]:
        """Return the SQL, and its parameters, for: the lease is still held."""
        connection = connections[self._using]
        table, broker, holder, expires_at = self._names()
        sql = (
            f"EXISTS (SELECT 1 FROM {table} WHERE {broker} = %s AND {holder} = %s "  # noqa: S608
            f"AND {expires_at} > {clock(connection)})"
        )
        return sql, [self._alias, self.holder]

    def _update(self, values: dict[str, str], parameters: list[Any], condition: str) -> bool:
        connection = connections[self._using]
        quote = connection.ops.quote_name
        table, broker, holder, expires_at = self._names()
        columns = ", ".join(f"{quote(name)} = {value}" for name, value in values.items())
        condition = condition.format(holder=holder, expires_at=expires_at)
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {table} SET {columns} WHERE {broker} = %s AND {condition}",  # noqa: S608
                [*parameters, self._alias, self.holder],
            )
            return bool(cursor.rowcount)

    def _names(self) -> list[str]:
        quote = connections[self._using].ops.quote_name
        return [quote(LeaseRow._meta.db_table), *map(quote, ("broker", "holder", "expires_at"))]  # noqa: SLF001
