"""What a loop thread is made of: a thread of the operating system, its locks, its event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from faststream_django.loop.event_loop import EventLoop

__all__ = ["Lock", "NoNativeThreads", "Thread", "Threads", "of_the_standard_library"]


class NoNativeThreads(Exception):
    """Threads or sockets are patched in a way that leaves nothing for a loop thread to rely on."""


class Lock(Protocol):
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...  # noqa: FBT001, FBT002
    def release(self) -> None: ...


class Thread(Protocol):
    @property
    def native_id(self) -> int | None: ...
    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def is_alive(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Threads:
    """What a loop thread is made of: chosen once for each, when it is started."""

    make_thread: Callable[[Callable[[], None], str], Thread]
    """A daemon, which runs a function. The interpreter waits for the others before it calls atexit."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop]
    new_lock: Callable[[], AbstractContextManager[Any]]
    new_call_lock: Callable[[], Lock]
    """For the one who waits: locked by its call, and released by another thread."""
    get_ident: Callable[[], int]
    sleep: Callable[[float], None]


def of_the_standard_library() -> Threads:
    # As they are now: what is patched later must not reach a thread that runs.
    allocate_lock = threading.Lock

    return Threads(
        make_thread=lambda target, name: threading.Thread(target=target, name=name, daemon=True),
        new_event_loop=_new_event_loop,
        new_lock=allocate_lock,
        new_call_lock=allocate_lock,
        get_ident=threading.get_ident,
        sleep=time.sleep,
    )


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop where it is installed."""
    if find_spec("uvloop") is None:
        return EventLoop(None, lambda module, name: getattr(import_module(module), name))
    # It resolves names on threads of libuv, which nothing can replace: one that hangs holds up the exit.
    loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    return loop
