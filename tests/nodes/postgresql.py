"""A private PostgreSQL cluster."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from .ports import LOOPBACK
from .processes import MissingService, OwnedProcess, run, unprivileged_user

START_TIMEOUT = 30.0  # seconds; 1.5 on an idle machine
USER = "postgres"
DATABASES = ("default", "other")
# Nothing here outlives the tests, so nothing has to survive a power failure.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class PostgreSQLCluster:
    """One cluster on loopback that trusts everybody, with an empty database for each alias.

    A durable one syncs what is committed, as a cluster in production does.
    """

    def __init__(self, port: int, *, is_durable: bool = False, connections: int = 100) -> None:
        self._bin = _find_bin()
        self.port = port
        self._settings = (f"max_connections={connections}", *(() if is_durable else _FAST))
        self._user = unprivileged_user(USER)
        # Open to the user it runs as, which pytest's own temporary folders are not.
        self.directory = Path(tempfile.mkdtemp(prefix="tests-postgresql-"))
        if self._user:
            shutil.chown(self.directory, self._user)
        self._env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        self._server: OwnedProcess | None = None

    @staticmethod
    def is_installed() -> bool:
        try:
            _find_bin()
        except MissingService:
            return False
        return True

    def start(self) -> None:
        """Create the cluster, start it and wait until it answers a query."""
        data = self.directory / "data"
        initdb = [self._bin / "initdb", "--no-sync", "--auth=trust", f"--username={USER}", "-E", "UTF8", data]
        run(initdb, env=self._env, directory=self.directory, user=self._user)
        settings = (
            f"listen_addresses={LOOPBACK}",
            f"port={self.port}",
            "unix_socket_directories=",
            *self._settings,
        )
        self._server = OwnedProcess(
            [str(self._bin / "postgres"), "-D", str(data), *(f"--{each}" for each in settings)],
            env=self._env,
            directory=self.directory,
            log=self.directory / "server.log",
            user=self._user,
        )
        self._server.wait_until(self._answers, timeout=START_TIMEOUT, what="PostgreSQL")
        for database in DATABASES:
            self.execute(f'CREATE DATABASE "{database}"')

    def execute(self, sql: str, database: str = USER) -> None:
        """Run one statement outside a transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(sql)

    def setting(self, name: str) -> str:
        """Ask the cluster for what it runs with."""
        import psycopg

        with psycopg.connect(self.url(USER)) as connection:
            return connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0]

    def url(self, database: str = DATABASES[0]) -> str:
        return f"postgresql://{USER}@{LOOPBACK}:{self.port}/{database}"

    def close(self) -> None:
        """End the cluster, which removes its shared memory, and remove its files."""
        if self._server is not None:
            self._server.send(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(10)
            self._server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False


def _find_bin() -> Path:
    folders = sorted(
        Path("/").glob("usr/lib/postgresql/*/bin"),
        key=lambda path: float(path.parent.name),
        reverse=True,
    )
    found = shutil.which("initdb")
    if found:
        folders.append(Path(found).resolve().parent)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise MissingService(
        "PostgreSQL is not installed: apt-get install postgresql, or brew install postgresql."
    )
