"""A broker that is away for a while, under a site that takes orders all the time."""

import contextlib
import http.client
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.nodes import free_port
from tests.nodes.ledger import messages_in

from .family import RELAY, Family, wait_until
from .writer import QUEUE

CUSTOMERS = 10
CALM = 5.0  # seconds before the outage, and after it
GIVEN_UP = 60.0
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--workers=2", "--worker-class=gthread", "--threads=4"),
    *("--no-control-socket", "--log-level=error", "tests.test_app.wsgi"),
)


@dataclass(slots=True)
class Outage:
    """What was seen. Times in seconds."""

    ordered: Counter[str] = field(default_factory=Counter)
    """The ids of the messages of the orders that were answered."""
    failed: list[str] = field(default_factory=list)
    """Why the others were not."""
    durations: list[float] = field(default_factory=list)
    backlog: int = 0
    """Rows that waited when the broker came back."""
    gone_after: float = 0.0
    """When the last of them was sent."""
    lost: int = 0
    duplicated: int = 0

    def __str__(self) -> str:
        p50, p99 = (statistics.quantiles(self.durations, n=100)[at] * 1000 for at in (49, 98))
        return (
            f"orders={len(self.ordered):,} failed={len(self.failed)} lost={self.lost} "
            f"duplicated={self.duplicated} backlog={self.backlog:,} gone after {self.gone_after:.2f} s, "
            f"request p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )


def outage(family: Family, seconds: float, rate: float) -> Outage:
    """Take the broker away for so long while there are `rate` orders a second."""
    seen = Outage()
    with _site(family) as port:
        family.start("relay", *RELAY)
        wait_until(family.leader, GIVEN_UP, "a leader")
        with _customers(port, rate, seen):
            time.sleep(CALM)
            family.node.kill()
            time.sleep(seconds)
            family.node.start()
            away_until = time.time() - (time.monotonic() - family.node.answers_since)
            waiting = f"SELECT count(*) FROM faststream_outbox WHERE created_at < {away_until}"
            seen.backlog = family.ask(waiting)
            wait_until(lambda: not family.ask(waiting), GIVEN_UP, "the backlog")
            seen.gone_after = time.monotonic() - family.node.answers_since
            time.sleep(CALM)
        wait_until(lambda: not family.left(), GIVEN_UP, "an empty outbox")
    family.send("relay", signal.SIGTERM)
    family.wait("relay")
    found = Counter(message_id for message_id, _ in messages_in(family.node, QUEUE))
    seen.lost = len(seen.ordered.keys() - found.keys())
    seen.duplicated = found.total() - len(found)
    return seen


@contextlib.contextmanager
def _site(family: Family) -> Iterator[int]:
    """Run a web server; return its port."""
    port = free_port()
    server = subprocess.Popen(
        [*GUNICORN, f"--bind=127.0.0.1:{port}"],
        env=family.environment,
        stderr=family.log,
        start_new_session=True,
    )
    try:
        wait_until(lambda: _answers(port), GIVEN_UP, "the site")
        yield port
    finally:
        server.terminate()
        server.wait(GIVEN_UP)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVEN_UP)
        connection.request("GET", "/pid/")
        return connection.getresponse().status == 200
    return False


@contextlib.contextmanager
def _customers(port: int, rate: float, seen: Outage) -> Iterator[None]:
    """Order all the time until the block of code ends."""
    ending = threading.Event()

    def order() -> None:
        turn = time.monotonic()
        while not ending.wait(max(0.0, turn - time.monotonic())):
            turn += CUSTOMERS / rate
            _order(port, seen)

    threads = [threading.Thread(target=order, daemon=True) for _ in range(CUSTOMERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join(GIVEN_UP)


def _order(port: int, seen: Outage) -> None:
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVEN_UP)
    try:
        connection.request("GET", f"/order/{QUEUE}/1/")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            seen.ordered[json.loads(body)["message_id"]] += 1
        else:
            seen.failed.append(str(answer.status))
    except (OSError, http.client.HTTPException) as error:
        seen.failed.append(type(error).__name__)
    finally:
        connection.close()
        seen.durations.append(time.monotonic() - began)
