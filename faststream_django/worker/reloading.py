"""Tells when the code of the project changes, as Django's development server notices it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from django.utils.autoreload import BaseReloader, StatReloader, get_reloader

__all__ = ["watch_code"]

_imported_at = time.time()


def watch_code(on_change: Callable[[], None]) -> None:
    """Have `on_change` called, in a thread, after each change of a file that Django's reloader watches.

    It logs which file that was.
    """
    threading.Thread(target=_watch, args=(on_change,), name="faststream_django-reload", daemon=True).start()


def _watch(on_change: Callable[[], None]) -> None:
    since = _imported_at
    while True:
        try:
            # It waits for this thread to load the apps; they are loaded.
            _reloader(since).run(threading.main_thread())
        except SystemExit:  # its way to say so
            since = time.time()
            on_change()


def _reloader(since: float) -> BaseReloader:
    reloader = get_reloader()
    return _LookingBack(since) if type(reloader) is StatReloader else reloader


class _LookingBack(StatReloader):
    """Notices also what has changed before it begins, after the code was imported."""

    def __init__(self, since: float) -> None:
        super().__init__()
        self._since = since
        self._is_first = True

    def snapshot_files(self) -> Iterator[tuple[Path, float]]:
        is_first, self._is_first = self._is_first, False
        for path, changed_at in super().snapshot_files():
            # A time that is still to come is no change, or the worker would start again for ever.
            is_news = is_first and changed_at <= time.time()
            yield path, min(changed_at, self._since) if is_news else changed_at
