"""Wakes a relay that waits: NOTIFY and LISTEN of PostgreSQL, where the connection lets them through."""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Iterable
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["LEASES", "MESSAGES", "Listener", "notify"]

logger = logging.getLogger("faststream_django.outbox")

MESSAGES = "faststream_outbox"
"""The channel on which the leader hears of messages; what is sent is the alias of their broker."""
LEASES = "faststream_outbox_lease"
"""The channel on which the others hear that the leader has gone."""

STEP = 0.2
"""Seconds between two looks at whether to stop."""
REOPEN_AFTER = 10.0
"""Seconds before a connection that was lost is opened again; polling goes on meanwhile."""


def notify(using: str, aliases: Iterable[str], channel: str = MESSAGES) -> None:
    """Wake the relays of these brokers, on PostgreSQL; nothing elsewhere. Never raises.

    To be called after the commit: in a transaction it would have all commits wait for each other.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_notify(%s, alias) FROM unnest(%s::text[]) alias", [channel, sorted({*aliases})]
            )
    except Error as error:
        # The relay polls as well, so that the messages are only later.
        logger.debug("using=%s state=not-notified reason=%s", using, type(error).__name__)
        connection.close_if_unusable_or_obsolete()


class Listener:
    """Waits for what is notified about one broker, on a connection of its own; for one thread.

    Where there is no NOTIFY, and behind a pooler, which would give the LISTEN to another client, it waits
    for the time to pass.
    """

    def __init__(self, using: str, alias: str) -> None:
        self._using = using
        self._alias = alias
        self._is_possible = connections[using].vendor == "postgresql"
        self._tried_at = -REOPEN_AFTER
        self._connection: BaseDatabaseWrapper | None = None

    @property
    def is_listening(self) -> bool:
        return self._connection is not None

    def wait(self, seconds: float, stopping: threading.Event, channel: str = MESSAGES) -> None:
        """Return when there was a notification since the last call, time is over, or it is to stop."""
        self.open()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not stopping.is_set():
            if self._connection is None:
                stopping.wait(left)
                return
            try:
                if channel in self._heard(self._connection, min(left, STEP)):
                    return
            except (OSError, Error, self._connection.Database.Error) as error:  # type: ignore[attr-defined]
                logger.debug("using=%s state=not-listening reason=%s", self._using, type(error).__name__)
                self.close()

    def open(self) -> None:
        """Listen, if that is possible. Never raises."""
        if not self._is_possible or self._connection is not None or self._is_too_early:
            return
        self._tried_at = time.monotonic()
        connection = connections[self._using].copy()
        connection.settings_dict["OPTIONS"].pop("pool", None)  # another user of it would go on listening
        try:
            connection.set_autocommit(True)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                if cursor.fetchone()[0] != _backend_pid(connection.connection):
                    self._is_possible = False  # the pid is that of a pooler's making
                else:
                    cursor.execute(f"LISTEN {MESSAGES}")
                    cursor.execute(f"LISTEN {LEASES}")
                    self._connection = connection
        except Error as error:
            logger.debug("using=%s state=not-listening reason=%s", self._using, type(error).__name__)
        finally:
            if self._connection is None:
                _close(connection)

    def close(self) -> None:
        """Do not listen any more. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _close(connection)

    @property
    def _is_too_early(self) -> bool:
        return time.monotonic() < self._tried_at + REOPEN_AFTER

    def _heard(self, connection: BaseDatabaseWrapper, seconds: float) -> set[str]:
        """Return the channels on which there was something about this broker."""
        driver = connection.connection
        heard = _pending(driver)
        if not heard:
            poll = select.poll()
            poll.register(driver.fileno(), select.POLLIN)
            if poll.poll(seconds * 1000):
                heard = _pending(driver)
        return {channel for channel, alias in heard if alias == self._alias}


def _pending(driver: Any) -> list[tuple[str, str]]:
    """Return what has come, by psycopg 3 or psycopg2."""
    if hasattr(driver, "pgconn"):
        driver.pgconn.consume_input()
        heard = []
        while (each := driver.pgconn.notifies()) is not None:
            heard.append((each.relname.decode(), each.extra.decode()))
        return heard
    driver.poll()
    heard = [(each.channel, each.payload) for each in driver.notifies]
    driver.notifies.clear()
    return heard


def _backend_pid(driver: Any) -> int:
    pid: int = driver.info.backend_pid if hasattr(driver, "pgconn") else driver.get_backend_pid()
    return pid


def _close(connection: BaseDatabaseWrapper) -> None:
    try:
        connection.close()
    except Error:
        logger.debug("using=%s state=not-closed", connection.alias)
