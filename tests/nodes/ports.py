"""Ports on loopback: free ones, one where nothing listens, one where nobody answers."""

import contextlib
import os
import random
import socket
import threading
from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
# Below the ephemeral ports of Linux and macOS: a client that keeps dialling a closed port in that
# range is one day given the very port as its own and is connected to itself.
_PORTS = range(10_000, 32_000)
# Between the choice of a port and its use another worker of pytest-xdist must not choose it too: each has
# ports of its own. Nor is one given twice.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_left = list(_PORTS[_WORKER::_WORKERS])
# Not the shared generator: pytest-randomly seeds it, and every run would begin with the same ports.
random.SystemRandom().shuffle(_left)


def free_port() -> int:
    while _left:
        port = _left.pop()
        with socket.socket() as candidate:
            try:
                candidate.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
    raise RuntimeError("All ports were given out.")


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """Hold a port where connecting is refused: bound, so nobody takes it, and not listening."""
    with socket.socket() as holder:
        while True:
            with contextlib.suppress(OSError):
                holder.bind((LOOPBACK, free_port()))
                break
        yield holder.getsockname()[1]


class MuteServer:
    """Accept every connection, count it, and never say a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, free_port()), backlog=128)
        self._accepted: list[socket.socket] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="mute-server", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    @property
    def count(self) -> int:
        """How many connections were made so far."""
        with self._changed:
            return len(self._accepted)

    def wait_for(self, count: int, timeout: float = 5.0) -> None:
        """Wait until that many connections were made."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._accepted) >= count, timeout):
                raise TimeoutError(f"{len(self._accepted)} of {count} connections came.")

    def wait_for_goodbyes(self, timeout: float = 5.0) -> None:
        """Wait until the other side has closed each connection that it has made."""
        with self._changed:
            accepted = list(self._accepted)
        for connection in accepted:
            connection.settimeout(timeout)
            while connection.recv(4096):
                pass

    def close(self) -> None:
        self._closing.set()
        # Closing a socket does not wake a thread in accept(), a connection does.
        socket.create_connection((LOOPBACK, self.port), timeout=5).close()
        self._thread.join(5)
        self._listener.close()
        for connection in self._accepted:
            connection.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            with self._changed:
                self._accepted.append(connection)
                self._changed.notify_all()
