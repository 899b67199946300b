"""A private MariaDB server."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from .ports import LOOPBACK
from .processes import MissingService, OwnedProcess, run, unprivileged_user

START_TIMEOUT = 60.0  # seconds; 2 on an idle machine
USER = "root"  # of the server, without a password
DATABASES = ("default", "other")
# Nothing here outlives the tests, so nothing has to survive a power failure.
_FAST = (
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--innodb-fast-shutdown=2",
    "--innodb-log-file-size=32M",
    "--innodb-buffer-pool-size=64M",
    "--skip-log-bin",
    "--skip-name-resolve",
)


class MariaDBServer:
    """One server on loopback that trusts everybody, with an empty database for each alias."""

    def __init__(self, port: int) -> None:
        self._program = _find("mariadbd")
        self._installer = _find("mariadb-install-db")
        self.port = port
        self._user = unprivileged_user("mysql")
        # Open to the user it runs as, which pytest's own temporary folders are not.
        self.directory = Path(tempfile.mkdtemp(prefix="tests-mariadb-"))
        if self._user:
            shutil.chown(self.directory, self._user)
        self._env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "TZ": "America/New_York",  # a server that is somewhere, and has summer time
            # A server that starts removes what looks like temporary tables there, also those of another one.
            "TMPDIR": str(self.directory),
        }
        self._server: OwnedProcess | None = None

    @staticmethod
    def is_installed() -> bool:
        try:
            _find("mariadbd")
        except MissingService:
            return False
        return True

    def start(self) -> None:
        """Create the data folder, start the server and wait until it answers a query."""
        data = f"--datadir={self.directory / 'data'}"
        # --no-defaults comes first: what the machine has in /etc/mysql is of another server.
        arguments = ("--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db")
        run([self._installer, *arguments], env=self._env, directory=self.directory, user=self._user)
        self._server = OwnedProcess(
            [
                self._program,
                "--no-defaults",
                data,
                f"--bind-address={LOOPBACK}",
                f"--port={self.port}",
                f"--socket={self.directory / 'socket'}",  # it cannot do without
                f"--pid-file={self.directory / 'pid'}",
                "--character-set-server=utf8mb4",
                *_FAST,
            ],
            env=self._env,
            directory=self.directory,
            log=self.directory / "server.log",
            user=self._user,
        )
        self._server.wait_until(self._answers, timeout=START_TIMEOUT, what="MariaDB")
        for database in DATABASES:
            self.execute(f"CREATE DATABASE `{database}`")

    def execute(self, sql: str, database: str | None = None) -> None:
        """Run one statement outside a transaction."""
        import pymysql

        with contextlib.closing(
            pymysql.connect(host=LOOPBACK, port=self.port, user=USER, database=database, autocommit=True)
        ) as connection:
            connection.cursor().execute(sql)

    def close(self) -> None:
        """End the server and remove its files."""
        if self._server is not None:
            self._server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        import pymysql

        with contextlib.suppress(pymysql.OperationalError):
            self.execute("SELECT 1")
            return True
        return False


def _find(program: str) -> str:
    # Debian has the server where only root's PATH leads to.
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if found is None:
        raise MissingService(
            "MariaDB is not installed: apt-get install mariadb-server, or brew install mariadb."
        )
    return found
