"""A TCP proxy on loopback that misbehaves as networks and servers do, and can terminate TLS."""

import contextlib
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import deque
from typing import Literal

from .ports import LOOPBACK, free_port

Side = Literal["client", "server"]

LOOK_AGAIN = 0.005  # seconds between two looks at a gate that is closed


class FaultProxy:
    """Forwards connections to a port until it is told to misbehave. With `tls` clients must speak TLS.

    `delay` holds back everything by so many seconds each way. `target` may be changed at any time, as a
    load balancer changes it: it counts for new connections.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self.delay = 0.0
        self._tls = tls
        self._listener = socket.create_server((LOOPBACK, free_port()), backlog=512)
        self._links: list[_Link] = []
        self._silent: list[socket.socket] = []
        self._is_mute = False
        self._closed_gates: set[Side] = set()
        self._refused = 0
        threading.Thread(target=self._accept, name="fault-proxy", daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return self.url_for("guest", "guest")

    def url_for(self, user: str, password: str) -> str:
        return f"amqp://{user}:{password}@{LOOPBACK}:{self.port}/"

    def black_hole(self, towards: Side | None = None) -> None:
        """Keep every connection open and let nothing pass, or nothing towards one side."""
        self._closed_gates = {towards} if towards else {"client", "server"}

    def forget(self) -> None:
        """Let nothing pass on today's connections ever again, like a router that lost its table."""
        for link in self._links:
            link.is_forgotten = True
        self._closed_gates = set()

    def mute(self) -> None:
        """Accept new connections and never say a word on them."""
        self._is_mute = True

    def mangle(self, towards: Side, data: bytes) -> None:
        """Replace what passes next on every open connection towards a side."""
        for link in self._links:
            link.mangled[towards] = data

    def refuse(self) -> None:
        """Refuse connections, and break those that are open."""
        port = self.port
        self._stop_listening()
        self._refused = port
        self.reset()

    def listen(self) -> None:
        """Accept connections again, on the same port."""
        self._listener = socket.create_server((LOOPBACK, self._refused), backlog=512)
        threading.Thread(target=self._accept, name="fault-proxy", daemon=True).start()

    def heal(self) -> None:
        """Let everything pass again, also what was held back; hang up on those who got no answer."""
        self._is_mute = False
        self.delay = 0.0
        self._closed_gates = set()
        silent, self._silent = self._silent, []
        for client in silent:
            client.close()

    def reset(self) -> None:
        """Break every connection with a TCP reset."""
        links, self._links = self._links, []
        for link in links:
            link.reset()

    def switch(self, target: int) -> None:
        """Break every connection and forward new ones to another port, as a load balancer does."""
        self.target = target
        self.reset()

    def close(self) -> None:
        self.heal()
        self._stop_listening()
        self.reset()

    def is_held(self, towards: Side) -> bool:
        return towards in self._closed_gates

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
            if self._is_mute:
                self._silent.append(client)
                continue
            try:
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
                server = socket.create_connection((LOOPBACK, self.target))
            except OSError:
                client.close()
                continue
            link = _Link(self, client, server)
            self._links = [each for each in self._links if not each.is_over] + [link]
            threading.Thread(target=link.run, name="fault-proxy-link", daemon=True).start()


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._ends: dict[Side, socket.socket] = {"client": client, "server": server}
        self._under_way: dict[Side, deque[tuple[float, bytes]]] = {"client": deque(), "server": deque()}
        self.mangled: dict[Side, bytes] = {}
        self.is_forgotten = False
        self.is_over = False
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError, KeyError):
            while not self.is_over and not self.is_forgotten:
                self._pass_on()
                wait = self._listen_where_it_may_pass(selector)
                for key, _ in selector.select(wait):
                    if not self._take(key.data):
                        self.is_over = True
        while self.is_forgotten and not self.is_over:  # until the proxy is closed or resets it
            time.sleep(0.05)
        self.is_over = True
        for end in self._ends.values():
            end.close()

    def reset(self) -> None:
        self.is_over = True
        for end in self._ends.values():
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            with contextlib.suppress(OSError):
                end.close()

    def _take(self, towards: Side) -> bool:
        """Read what is to pass towards a side; return False at the end of the connection."""
        source = self._ends["server" if towards == "client" else "client"]
        data = source.recv(65536)
        while isinstance(source, ssl.SSLSocket) and source.pending():
            data += source.recv(65536)
        if data:
            data = self.mangled.pop(towards, data)
            self._under_way[towards].append((time.monotonic() + self._proxy.delay, data))
        return bool(data)

    def _pass_on(self) -> None:
        for towards, chunks in self._under_way.items():
            while chunks and not self._is_held(towards) and chunks[0][0] <= time.monotonic():
                self._ends[towards].sendall(chunks.popleft()[1])

    def _listen_where_it_may_pass(self, selector: selectors.BaseSelector) -> float | None:
        """Stop reading towards a closed gate, so that the sender feels it; return how long to wait."""
        waits = []
        for towards, chunks in self._under_way.items():
            source = self._ends["server" if towards == "client" else "client"]
            is_registered = source in selector.get_map()
            if self._is_held(towards):
                waits.append(LOOK_AGAIN)
                if is_registered and chunks:
                    selector.unregister(source)
                continue
            if not is_registered:
                selector.register(source, selectors.EVENT_READ, towards)
            if chunks:
                waits.append(max(0.0, chunks[0][0] - time.monotonic()))
        return min(waits, default=None)

    def _is_held(self, towards: Side) -> bool:
        return self.is_forgotten or self._proxy.is_held(towards)
