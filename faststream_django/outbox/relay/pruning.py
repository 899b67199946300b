"""RETAIN_DEAD: dead messages are deleted some time after they died."""

from __future__ import annotations

import logging
import time

from django.db import connections

from faststream_django.conf.entries import broker_settings
from faststream_django.outbox.engines import clock
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.sending import delete_rows

__all__ = ["Pruning"]

logger = logging.getLogger("faststream_django.outbox")

EVERY, MOST = 60.0, 500
"""Seconds between two looks, and the rows that one deletes."""


class Pruning:
    """Deletes the dead messages of one broker, a few at a time. What holds its key stays."""

    def __init__(self, using: str, alias: str) -> None:
        self._using = using
        self._alias = alias
        self._next = 0.0

    def prune(self) -> None:
        """Delete some that have been dead for RETAIN_DEAD, if it is time to look."""
        retained = broker_settings(self._alias).outbox.retain_dead
        now = time.monotonic()
        if retained is None or now < self._next:
            return
        ids = self._find(retained)
        delete_rows(self._using, ids)
        if ids:
            logger.info("using=%s broker=%s pruned=%d", self._using, self._alias, len(ids))
        self._next = now if len(ids) == MOST else now + EVERY

    def _find(self, retained: float) -> list[int]:
        connection = connections[self._using]
        quote = connection.ops.quote_name
        broker, state, due = map(quote, ("broker", "state", "due"))
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {quote('id')} FROM {quote(OutboxMessage._meta.db_table)} WHERE {broker} = %s "  # noqa: S608, SLF001
                f"AND {state} = {State.DEAD:d} AND {due} < {clock(connection)} - %s "
                f"ORDER BY {broker}, {state}, {due} LIMIT {MOST}",
                [self._alias, retained],
            )
            return [row_id for (row_id,) in cursor.fetchall()]
