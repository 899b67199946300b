"""A private Redis server: a FastStream broker that is not RabbitMQ."""

import shutil
import socket
import tempfile
from pathlib import Path

from .ports import LOOPBACK, free_port
from .processes import MissingService, OwnedProcess

START_TIMEOUT = 10.0  # seconds; 0.1 on an idle machine


class RedisServer:
    """One server on loopback that keeps nothing."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise MissingService("redis-server is not installed (Debian: apt-get install redis-server).")
        self._program = program
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="tests-redis-"))
        self._server: OwnedProcess | None = None

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("redis-server") is not None

    def start(self) -> None:
        self._server = OwnedProcess(
            [self._program, "--port", str(self.port), "--bind", LOOPBACK, "--save", ""],
            env={},
            directory=self.directory,
            log=self.directory / "server.log",
        )
        self._server.wait_until(self._answers, timeout=START_TIMEOUT, what="Redis")

    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}"

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as client:
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False
