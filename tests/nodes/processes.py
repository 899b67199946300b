"""Server processes that belong to the tests and cannot outlive them."""

import atexit
import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# The watcher reads a pipe that only the tests hold: it ends when they do, however they do
# (also by SIGKILL, when neither fixtures nor atexit run), and takes the whole group along.
WATCHED = """
exec 3<&0
{ cat <&3 >/dev/null; kill -KILL 0; } &
exec "$@" 3<&- </dev/null
"""


PREPARING = 60.0  # seconds; 2 on an idle machine


class MissingService(Exception):
    """A server is not installed. The text says what to install."""


def unprivileged_user(name: str) -> str | None:
    """Return this user, or another without rights, for a server that refuses to run as root; else None."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name).pw_name
    return "nobody"


def run(
    arguments: Sequence[str | Path], *, env: Mapping[str, str], directory: Path, user: str | None
) -> None:
    """Run what prepares a server, to its end; raise RuntimeError with what it said if it fails."""
    done = subprocess.run(
        arguments,
        env=env,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PREPARING,
        user=user,
        group=user and _group_of(user),
        extra_groups=[] if user else None,
    )
    if done.returncode:
        raise RuntimeError(f"{Path(arguments[0]).name} failed.\n{done.stdout}{done.stderr}")


class OwnedProcess:
    """One server in a session of its own, so that Ctrl-C in the terminal does not reach it."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        directory: Path,
        log: Path,
        user: str | None = None,
    ) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self.log = log
        self._owner = os.getpid()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WATCHED, "watched", *self.arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=directory,
                env=dict(env),
                start_new_session=True,
                user=user,
                group=user and _group_of(user),
                extra_groups=[] if user else None,
            )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def send(self, signal_number: int) -> None:
        if self.is_running:
            os.kill(self.pid, signal_number)

    def wait(self, timeout: float) -> None:
        """Wait for the end of the server. Raise subprocess.TimeoutExpired."""
        self._process.wait(timeout)
        self._release()

    def kill(self) -> None:
        """End the server and everything it started, at once."""
        if os.getpid() != self._owner:  # a fork of the tests: the server is not ours
            return
        if self.is_running:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._release()

    def wait_until(self, condition: Callable[[], bool], *, timeout: float, what: str) -> None:
        """Poll until the server answers. Raise TimeoutError, or RuntimeError when it ended."""
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.is_running:
                raise RuntimeError(f"{what} ended while starting.\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not answer in {timeout} s.\n{self.last_words()}")
            time.sleep(0.02)

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def _release(self) -> None:
        atexit.unregister(self.kill)
        if self._process.stdin:
            self._process.stdin.close()


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid
