"""A TCP proxy on loopback that holds back or resets what passes, and can terminate TLS."""

import contextlib
import selectors
import socket
import ssl
import struct
import threading

from .ports import LOOPBACK, free_port


class FaultProxy:
    """Forwards connections to a port until it is told to misbehave. With `tls` clients must speak TLS."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self._tls = tls
        self._listener = socket.create_server((LOOPBACK, free_port()), backlog=128)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._passing = threading.Event()
        self._passing.set()
        self._refused = 0
        threading.Thread(target=self._accept, name="fault-proxy", daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    def black_hole(self) -> None:
        """Keep every connection open and let nothing pass."""
        self._passing.clear()

    def forget(self) -> None:
        """Let nothing pass on today's connections ever again, like a router that lost its table."""
        self._passing = threading.Event()  # the pumps of today wait for the old one
        self._passing.set()

    def refuse(self) -> None:
        """Refuse connections, and break those that are open."""
        port = self.port
        self._stop_listening()
        self._refused = port
        self.reset()

    def listen(self) -> None:
        """Accept connections again, on the same port."""
        self._listener = socket.create_server((LOOPBACK, self._refused), backlog=128)
        threading.Thread(target=self._accept, name="fault-proxy", daemon=True).start()

    def heal(self) -> None:
        """Let everything pass again, also what was held back."""
        self._passing.set()

    def reset(self) -> None:
        """Break every connection with a TCP reset."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
                with contextlib.suppress(OSError):
                    end.close()

    def close(self) -> None:
        self._passing.set()
        self._stop_listening()
        self.reset()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
                server = socket.create_connection((LOOPBACK, self.target))
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        passing = self._passing
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError):
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    passing.wait()
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    while isinstance(key.fileobj, ssl.SSLSocket) and key.fileobj.pending():
                        data += key.fileobj.recv(65536)
                    if not data:
                        client.close()
                        server.close()
                        return
                    passing.wait()
                    key.data.sendall(data)
        for end in (client, server):
            end.close()
