"""``memory://``: the embedded broker of this process, for development and tests without a server.

Its parts are imported when they are first asked for: a look into the server loads no driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faststream_django.backends.memory.backend import MemoryBackend, MemorySession
    from faststream_django.backends.memory.server import MemoryServer

__all__ = ["MemoryBackend", "MemoryServer", "MemorySession"]

_MODULES = {"MemoryBackend": "backend", "MemoryServer": "server", "MemorySession": "backend"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
