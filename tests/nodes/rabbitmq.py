"""A private RabbitMQ node, and what a test asks of it."""

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .ports import LOOPBACK, free_port
from .processes import MissingService, OwnedProcess

START_TIMEOUT = 60.0  # seconds; 5 on an idle machine
STOP_TIMEOUT = 30.0
OWN_CONNECTION = "tests.nodes"
_UNKNOWN = ("none", "", None)  # client properties while the handshake is under way

# RABBITMQ=4 in the environment stands for what scripts/rabbitmq-4 makes.
_RABBITMQ_4 = Path(__file__).parent.parent.parent / ".rabbitmq-4" / "sbin"
# Debian, the generic tarball, Homebrew on Intel and on ARM.
_SBIN = (
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "/opt/rabbitmq*/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/opt/homebrew/opt/rabbitmq/sbin",
)
_ALARM = """
vm_memory_monitor:set_vm_memory_high_watermark({watermark}),
Wait = fun Wait() ->
    case lists:any(fun({{{{resource_limit, memory, _}}, _}}) -> true; (_) -> false end,
                   rabbit_alarm:get_alarms()) of
        {raised} -> erlang:system_time(microsecond);
        _ -> timer:sleep(10), Wait()
    end
end,
Wait().
"""
_QUEUE = """
{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),
sys:{action}(amqqueue:get_pid(Queue)).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message taken out of a queue, with pika's BasicProperties."""

    body: bytes
    properties: Any
    exchange: str
    routing_key: str
    redelivered: bool

    @property
    def headers(self) -> dict[str, Any]:
        return self.properties.headers or {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConnection:
    """A connection as RabbitMQ lists it."""

    name: str
    pid: str
    peer_port: int
    user: str
    state: str
    client_properties: Mapping[str, Any]


class RabbitMQNode:
    """One node on loopback with its own files, cookie, ports and epmd.

    start() again after stop() or kill() keeps the port and what was durable. A node with a `seed` shares
    its cookie and its epmd, as the nodes of one cluster must. A node with a `stomp_port` speaks STOMP too.
    """

    def __init__(self, seed: "RabbitMQNode | None" = None, *, stomp_port: int | None = None) -> None:
        self._seed = seed
        self._sbin = _find_sbin()
        self.port = free_port()
        self.stomp_port = stomp_port
        self.directory = Path(tempfile.mkdtemp(prefix="tests-rabbitmq-"))
        self._env = self._environment()
        self._epmd: OwnedProcess | None = None
        self._server: OwnedProcess | None = None
        self._is_paused = False
        self.answers_since = 0.0
        """When (time.monotonic) clients could be served again after a start or an alarm."""
        self._write_files()

    @staticmethod
    def is_installed() -> bool:
        try:
            _find_sbin()
            _find_epmd()
        except MissingService:
            return False
        return True

    # Life

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.is_running

    def start(self) -> None:
        """Start the node and wait until it speaks AMQP."""
        if self.is_running:
            return
        self._start_epmd()
        self._pid_file.unlink(missing_ok=True)
        self._server = self._launch([self._sbin / "rabbitmq-server"], log="server.log")
        self._server.wait_until(lambda: _speaks_amqp(self.port), timeout=START_TIMEOUT, what="RabbitMQ")
        self.answers_since = time.monotonic()
        self._server.wait_until(self._pid_file.exists, timeout=START_TIMEOUT, what="RabbitMQ")

    def stop(self) -> None:
        """Stop the node as a system administrator does: connections are closed, data is kept."""
        if self._server is None:
            return
        self.resume()
        self._server.send(signal.SIGTERM)
        self._server.wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """End the node as a power failure does."""
        if not self.is_running:
            return
        self._is_paused = False
        # The script waits for the Erlang machine, so its end says that the other's is complete.
        os.kill(self._erlang_pid, signal.SIGKILL)
        self._server.wait(STOP_TIMEOUT)
        self._server.kill()

    def pause(self) -> None:
        """Freeze the node: the kernel still accepts connections, nobody answers."""
        os.kill(self._erlang_pid, signal.SIGSTOP)
        self._is_paused = True
        # Its threads stop one after the other.
        self._server.wait_until(lambda: _is_stopped(self._erlang_pid), timeout=10, what="RabbitMQ")

    def resume(self) -> None:
        if self._is_paused:
            os.kill(self._erlang_pid, signal.SIGCONT)
            self._is_paused = False

    def recover(self) -> None:
        """Have the node running again, whatever a test did to it."""
        self.resume()
        self.start()

    def close(self) -> None:
        """End the node and its epmd and remove their files."""
        for process in (self._server, self._epmd):
            if process is not None:
                process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # Questions and commands

    @property
    def name(self) -> str:
        """The name of the node, as a cluster knows it."""
        return f"tests{self.port}@localhost"

    @functools.cached_property
    def version(self) -> tuple[int, ...]:
        return tuple(map(int, self.ctl("version").split(".")))

    def url(self, user: str = "guest", password: str = "guest", vhost: str = "/") -> str:
        user, password = quote(user, safe=""), quote(password, safe="")
        path = "" if vhost == "/" else quote(vhost, safe="")
        return f"amqp://{user}:{password}@{LOOPBACK}:{self.port}/{path}"

    def ctl(self, *arguments: str, timeout: float = 30.0) -> str:
        """Run rabbitmqctl, about half a second, and return what it printed."""
        done = subprocess.run(
            [self._sbin / "rabbitmqctl", "--silent", *arguments],
            env=self._env,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments} failed: {done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Block every connection that publishes, until the block of code ends."""
        self.ctl("eval", _ALARM.format(watermark="0.0001", raised="true"))
        try:
            yield
        finally:
            over = float(self.ctl("eval", _ALARM.format(watermark="0.4", raised="false"))) / 1e6
            self.answers_since = time.monotonic() - (time.time() - over)

    def close_all_connections(self, reason: str = "closed by a test") -> None:
        """Have the node close every connection: 320 CONNECTION_FORCED."""
        self.ctl("close_all_connections", reason)

    def connections(self) -> list[ClientConnection]:
        """List the connections of clients, without those that this object opens for itself.

        Whose a connection is RabbitMQ knows from the end of its handshake on; before, it is not listed.
        """
        columns = ("name", "pid", "peer_port", "user", "state", "client_properties")
        rows = json.loads(self.ctl("list_connections", *columns, "--formatter", "json"))
        listed = [
            ClientConnection(**{**row, "client_properties": _table(row["client_properties"])})
            for row in rows
            if row["client_properties"] not in _UNKNOWN
        ]
        return [
            connection
            for connection in listed
            if connection.client_properties.get("connection_name") != OWN_CONNECTION
        ]

    def unconfirmed(self) -> int:
        """Count the messages that the node has and has not confirmed yet, over all its channels."""
        rows = json.loads(self.ctl("list_channels", "messages_unconfirmed", "--formatter", "json"))
        return sum(row["messages_unconfirmed"] for row in rows)

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """Open a pika channel on a connection of its own."""
        import pika

        parameters = pika.URLParameters(self.url())
        parameters.client_properties = {"connection_name": OWN_CONNECTION}
        parameters.socket_timeout = parameters.blocked_connection_timeout = 10
        connection = pika.BlockingConnection(parameters)
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def declare_queue(
        self, name: str = "", *, durable: bool = True, arguments: Mapping[str, Any] | None = None
    ) -> str:
        """Declare a queue and return its name, which RabbitMQ makes up when none is given."""
        with self.channel() as channel:
            declared = channel.queue_declare(name, durable=durable, arguments=arguments)
        queue: str = declared.method.queue
        return queue

    @contextlib.contextmanager
    def suspended(self, queue: str) -> Iterator[None]:
        """Have a classic queue neither store nor confirm what it gets, until the block of code ends."""
        self.ctl("eval", _QUEUE.format(action="suspend", queue=queue))
        try:
            yield
        finally:
            self.ctl("eval", _QUEUE.format(action="resume", queue=queue))

    def declare_exchange(
        self,
        name: str,
        type: str = "direct",  # noqa: A002
        *,
        durable: bool = True,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        with self.channel() as channel:
            channel.exchange_declare(name, type, durable=durable, arguments=arguments)

    def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        with self.channel() as channel:
            channel.queue_bind(queue, exchange, routing_key, arguments)

    def delete_queue(self, *names: str) -> None:
        with self.channel() as channel:
            for name in names:
                channel.queue_delete(name)

    def delete_exchange(self, *names: str) -> None:
        with self.channel() as channel:
            for name in names:
                channel.exchange_delete(name)

    def publish(self, body: bytes, routing_key: str = "", exchange: str = "", **properties: Any) -> None:
        """Publish with pika, persistent and confirmed, for tests about what arrives."""
        import pika

        with self.channel() as channel:
            channel.confirm_delivery()
            channel.basic_publish(
                exchange,
                routing_key,
                body,
                pika.BasicProperties(delivery_mode=2, **properties),
                mandatory=True,
            )

    def count(self, queue: str) -> int:
        """Count the messages that are ready. Raise pika's ChannelClosedByBroker without a queue."""
        with self.channel() as channel:
            declared = channel.queue_declare(queue, passive=True)
        count: int = declared.method.message_count
        return count

    def drain(self, queue: str) -> list[StoredMessage]:
        """Take every message out of a queue, in order."""
        messages = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return messages
                messages.append(
                    StoredMessage(
                        body=body,
                        properties=properties,
                        exchange=method.exchange,
                        routing_key=method.routing_key,
                        redelivered=method.redelivered,
                    )
                )

    # Files

    @property
    def _pid_file(self) -> Path:
        return Path(self._env["RABBITMQ_PID_FILE"])

    @property
    def _erlang_pid(self) -> int:
        return int(self._pid_file.read_text())

    def _start_epmd(self) -> None:
        if self._seed is not None:
            self._seed._start_epmd()
        elif self._epmd is None or not self._epmd.is_running:
            port = self._env["ERL_EPMD_PORT"]
            self._epmd = self._launch(
                [_find_epmd(), "-port", port, "-address", LOOPBACK],
                log="epmd.log",
            )
            self._epmd.wait_until(lambda: _accepts(int(port)), timeout=10, what="epmd")

    def _launch(self, arguments: list[str | Path], *, log: str) -> OwnedProcess:
        return OwnedProcess(
            [str(argument) for argument in arguments],
            env=self._env,
            directory=self.directory,
            log=self.directory / log,
        )

    def _environment(self) -> dict[str, str]:
        files = self.directory
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "HOME": str(files),  # where Erlang looks for its cookie
            "TMPDIR": tempfile.gettempdir(),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": self._seed._env["ERL_EPMD_PORT"] if self._seed else str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,  # not the settings of the machine's own node
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(files / "data"),
            "RABBITMQ_LOG_BASE": str(files / "log"),
            "RABBITMQ_PID_FILE": str(files / "pid"),
            "RABBITMQ_CONFIG_FILE": str(files / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(files / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(files / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"
            ),
            "RABBITMQ_CTL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def _write_files(self) -> None:
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(
            (self._seed.directory / ".erlang.cookie").read_text() if self._seed else secrets.token_hex(16)
        )
        cookie.chmod(0o400)
        stomp = f"stomp.listeners.tcp.1 = {LOOPBACK}:{self.stomp_port}\n" if self.stomp_port else ""
        (self.directory / "enabled_plugins").write_text("[rabbitmq_stomp]." if stomp else "[].")
        (self.directory / "rabbitmq.conf").write_text(
            f"{stomp}listeners.tcp.1 = {LOOPBACK}:{self.port}\n"
            "loopback_users = none\n"
            "disk_free_limit.absolute = 50MB\n"
            "log.file.level = info\n"
        )


def _find_sbin() -> Path:
    """Find the real scripts: Debian's wrappers in /usr/sbin change to the user rabbitmq."""
    wanted = os.environ.get("RABBITMQ", "")
    if wanted == "4":
        if (_RABBITMQ_4.parent / ".complete").exists():
            return _RABBITMQ_4
        raise MissingService("RabbitMQ 4 is not installed: scripts/rabbitmq-4 makes it, as root on Debian.")
    if wanted:
        raise ValueError(f"RABBITMQ is {wanted!r}: 4, or nothing for the one of the machine.")
    found = shutil.which("rabbitmq-server")
    folders = [path for pattern in _SBIN for path in sorted(Path("/").glob(pattern[1:]))[::-1]]
    if found:
        folders.append(Path(found).resolve().parent)
    for folder in folders:
        if (folder / "rabbitmq-server").exists() and (folder / "rabbitmq-env").exists():
            return folder
    raise MissingService(
        "RabbitMQ is not installed: apt-get install rabbitmq-server, or brew install rabbitmq."
    )


def _find_epmd() -> str:
    if (beside := _find_sbin() / "epmd").exists():
        return str(beside)
    patterns = ("usr/lib/erlang/erts-*/bin/epmd", "usr/local/lib/erlang/erts-*/bin/epmd")
    found = shutil.which("epmd") or next(
        (str(path) for pattern in patterns for path in Path("/").glob(pattern)), None
    )
    if found is None:
        raise MissingService("Erlang's epmd is not on the PATH; it comes with RabbitMQ's Erlang.")
    return found


def _is_stopped(pid: int) -> bool:
    """Tell whether every thread has stopped; the state follows the name in parentheses."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def _speaks_amqp(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection((LOOPBACK, port), timeout=1) as client,
    ):
        client.sendall(b"AMQP\x00\x00\x09\x01")
        # A method frame, type 1, on channel 0: Connection.Start.
        return client.recv(3) == b"\x01\x00\x00"
    return False


def _table(properties: Any) -> dict[str, Any]:
    """Read client properties, which versions of rabbitmqctl print as a map or as triples."""
    if isinstance(properties, Mapping):
        return dict(properties)
    return {name: value for name, _, value in properties}
