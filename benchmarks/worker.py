"""The process of one contender: a command a line on stdin, an answer a line on stdout, both JSON.

    python -m benchmarks.worker NAME

It ends when stdin does.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any

from benchmarks.addresses import Addresses
from benchmarks.contenders import ENTRANTS
from benchmarks.contenders.base import Contender
from benchmarks.workload import Workload


class Worker:
    def __init__(self, contender_class: type[Contender]) -> None:
        self._class = contender_class
        self._open: dict[str, Contender] = {}

    def hello(self) -> dict[str, Any]:
        """Tell what the contender guarantees."""
        return asdict(self._class.guarantees)

    def open(
        self, key: str, addresses: dict[str, Any], queue: str, workload: dict[str, Any]
    ) -> dict[str, Any]:
        contender = self._class(Addresses(**addresses), queue, Workload(**workload))
        contender.open()
        self._open[key] = contender
        return {}

    def release(self, key: str) -> dict[str, Any]:
        self._open[key].release()
        return {}

    def fill(self, key: str) -> dict[str, Any]:
        self._open[key].fill()
        return {}

    def round(self, key: str) -> dict[str, Any]:
        return asdict(self._open[key].round())

    def close(self) -> dict[str, Any]:
        while self._open:
            _, contender = self._open.popitem()
            contender.close()
        return {}


def main() -> None:
    # Answers have a pipe to themselves: whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    module, name = ENTRANTS[sys.argv[1]].path.split(":")
    worker = Worker(getattr(import_module(f"benchmarks.contenders.{module}"), name))
    for line in sys.stdin:
        print(json.dumps(_answer(worker, **json.loads(line))), file=answers, flush=True)


def _answer(worker: Worker, verb: str, **arguments: Any) -> dict[str, Any]:
    commands: dict[str, Callable[..., dict[str, Any]]] = {
        "hello": worker.hello,
        "open": worker.open,
        "release": worker.release,
        "fill": worker.fill,
        "round": worker.round,
        "close": worker.close,
    }
    try:
        return commands[verb](**arguments)
    except Exception:  # noqa: BLE001 - the harness raises it
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    main()
