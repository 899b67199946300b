"""Event loops that are not asyncio's: what would block one must know of it too."""

from __future__ import annotations

import sys

__all__ = ["foreign_loop"]


def foreign_loop() -> str | None:
    """Return the name of the foreign library whose event loop runs in this thread: "trio", or None.

    Imports nothing: whoever runs trio has imported it.
    """
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except (RuntimeError, AttributeError):  # none runs here; or trio is being imported
        return None
    return "trio"
