"""The harness's end of a contender's process."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.addresses import Addresses
from benchmarks.contenders import Entrant
from benchmarks.contenders.base import Guarantees
from benchmarks.sample import Sample
from benchmarks.workload import Workload

__all__ = ["ContenderFailed", "ContenderProcess"]

_ROOT = Path(__file__).parent.parent
_TIMEOUT = 600.0  # seconds, for one round of a million messages
_STOP_TIMEOUT = 15.0


class ContenderFailed(Exception):
    """A contender raised, ended or did not answer."""


class ContenderProcess:
    def __init__(self, entrant: Entrant, addresses: Addresses) -> None:
        self.entrant = entrant
        self._addresses = addresses
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - stop() closes it
        self._process = subprocess.Popen(  # noqa: S603 - our own worker
            [sys.executable, "-m", "benchmarks.worker", entrant.name],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def guarantees(self) -> Guarantees:
        return Guarantees(**self._ask("hello"))

    def open(self, key: str, workload: Workload) -> None:
        self._ask(
            "open",
            key=key,
            addresses=asdict(self._addresses),
            queue=self.entrant.queue,
            workload=asdict(workload),
        )

    def release(self, key: str) -> None:
        """Have a worker end the handler of its first message."""
        self._ask("release", key=key)

    def fill(self, key: str) -> None:
        """Put the messages of a round into the queue of a worker."""
        self._ask("fill", key=key)

    def round(self, key: str) -> Sample:
        return Sample(**self._ask("round", key=key))

    def close_connections(self) -> None:
        self._ask("close")

    def stop(self) -> None:
        """End the process: politely, and then not."""
        process = self._process
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        self._log.close()

    def _ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - both are pipes
        assert stdout is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError):  # the end of stdout tells it better
            stdin.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            stdin.flush()
        if not select.select([stdout], [], [], _TIMEOUT)[0]:
            raise ContenderFailed(f"{self.entrant.title} did not answer {verb!r} in {_TIMEOUT:.0f} s")
        line = stdout.readline()
        if not line:
            raise ContenderFailed(f"{self.entrant.title} ended at {verb!r}:\n{self._printed()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderFailed(f"{self.entrant.title} failed at {verb!r}:\n{answer['error']}")
        return answer

    def _printed(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")
