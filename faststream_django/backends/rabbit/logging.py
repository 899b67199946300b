"""Keeps aiormq quiet about our connections, whose troubles our own errors and log lines tell."""

from __future__ import annotations

import logging

from faststream_django.loop.thread import loop_thread

__all__ = ["quieten_aiormq"]

# aiormq writes an ERROR for every attempt to connect, tracebacks for every loss, and bodies at DEBUG.
LOGGERS = ("aiormq.connection", "aiormq.channel")


class _NotOurs(logging.Filter):
    """Passes what other users of aiormq in the process log, such as FastStream's subscribers."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        return not loop_thread.is_current()


_filter = _NotOurs()


def quieten_aiormq() -> None:
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # adding it again changes nothing
