"""Tells when the code of the project changes, as Django's development server notices it."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["watch_code"]


def watch_code(on_change: Callable[[], None]) -> None:
    """Have `on_change` called, in a thread, after each change of a file that Django's reloader watches.

    It logs which file that was.
    """
    threading.Thread(target=_watch, args=(on_change,), name="faststream_django-reload", daemon=True).start()


def _watch(on_change: Callable[[], None]) -> None:
    from django.utils.autoreload import get_reloader

    while True:
        try:
            # It waits for this thread to load the apps; they are loaded.
            get_reloader().run(threading.main_thread())
        except SystemExit:  # its way to say so
            on_change()
