"""The socket between a worker process and its supervisor."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["HURRY", "STOP", "Supervision", "inherited_supervision", "variables"]

SOCKET, NUMBER = "FASTSTREAM_DJANGO_WORKER_SOCKET", "FASTSTREAM_DJANGO_WORKER_NUMBER"

STOP, HURRY = b"s", b"h"
"""What the supervisor says. It says STOP by its end, too, however it ends."""


def variables(child_end: socket.socket, number: int) -> dict[str, str]:
    """Return what the environment of a process has to hold for inherited_supervision()."""
    return {SOCKET: str(child_end.fileno()), NUMBER: str(number)}


def inherited_supervision() -> Supervision | None:
    """Return the socket to the supervisor, if this process was started by one; once."""
    descriptor, number = os.environ.pop(SOCKET, None), os.environ.pop(NUMBER, None)
    return None if descriptor is None or number is None else Supervision(int(descriptor), int(number))


class Supervision:
    """The end of the process that is supervised. It stays open for as long as the process lives."""

    def __init__(self, descriptor: int, number: int) -> None:
        self.number = number
        """Which of the processes this is, from 1."""
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)  # noqa: FBT003

    def obey(self, stop: Callable[[str], None], hurry: Callable[[], None]) -> None:
        """Have these called, in a thread, when the supervisor says so or is gone; `stop` with the reason."""
        threading.Thread(
            target=self._listen, args=(stop, hurry), name="faststream_django-supervision", daemon=True
        ).start()

    def report(self, state: str) -> None:
        """Tell the supervisor how this process is, unless it does not listen."""
        _, writable, _ = select.select([], [self._descriptor], [], 0)
        if writable:
            with suppress(OSError):  # it is gone
                os.write(self._descriptor, f"{state}\n".encode())

    def _listen(self, stop: Callable[[str], None], hurry: Callable[[], None]) -> None:
        while word := self._hear():
            if word == HURRY:
                hurry()
            else:
                stop("the supervisor says so")
        stop("the supervisor is gone")

    def _hear(self) -> bytes:
        with suppress(OSError):  # it was reset
            return os.read(self._descriptor, 1)
        return b""
