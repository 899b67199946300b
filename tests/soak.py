"""The long run: two restarts under load, random faults, a long stall, a cluster that loses nodes.

    make soak
    make soak ARGS="--parts faults,cluster --minutes 3"

Every publish is held against what an independent client finds in the queue afterwards. Prints one table;
the exit code is 1 if a guarantee was broken.
"""

import argparse
import contextlib
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django

from tests.faults.failover import CASES, fail_over
from tests.faults.faults import FAULTS
from tests.faults.load import Load, share, to
from tests.faults.site import BUSY, Site, open_site
from tests.faults.stall import stall
from tests.nodes import Account, Ledger, RabbitMQCluster, RabbitMQNode

# What happens in the random run; those that last do so for a second to MOST.
RANDOM = (
    "kill",
    "pause",
    "reset",
    "black hole",
    "forgotten connections",
    "alarm",
    "close all connections",
    "permission revoked",
)
MOST = 8.0
COLUMNS = (
    "attempted",
    "acked",
    "refused",
    "unknown",
    "ghosts",
    "lost",
    "duplicated",
    "disowned",
    "wrong_class",
    "hung",
)
RETRY = 0.02  # seconds until a message that was certainly not sent is published again


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table. `problems` is empty when every guarantee was kept."""

    name: str
    account: Account | None = None
    notes: str = ""
    problems: tuple[str, ...] = ()


def restarts(options: argparse.Namespace) -> Iterator[Row]:
    """Publish every message until it is confirmed, with a restart at a third and kill -9 at a half.

    What is certainly not sent is published again with the same id, so a wrong "not sent" is a duplicate.
    What is unknown is left: it may be in the queue or not.
    """
    total = options.messages * options.threads
    with node() as rabbitmq, open_site(rabbitmq, "soak-restarts", **options.settings) as site:
        ledger, settled = Ledger(*FAULTS["kill"].errors), itertools.count(1)
        done = [0]

        def publish(numbers: list[int]) -> None:
            for number in numbers:
                until_told(site, ledger, str(number))
                done[0] = next(settled)

        started = time.monotonic()
        threads = [
            threading.Thread(target=publish, args=(part,), daemon=True)
            for part in share(range(total), options.threads)
        ]
        for thread in threads:
            thread.start()
        for at, name in ((total // 3, "restart"), (total // 2, "kill")):
            while done[0] < at:
                time.sleep(0.05)
            FAULTS[name].strike(site, 0)
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
        ledger.read(rabbitmq, [site.queue])
    account = ledger.account()
    missing = total - account.found - (account.unknown - account.ghosts)
    yield row(
        f"{options.messages:,} x {options.threads}, two restarts",
        account,
        options,
        notes=f"{total / seconds:.0f}/s, {missing} of {total:,} messages unaccounted for",
        problems=[f"{missing} messages unaccounted for"] if missing else [],
    )


def until_told(site: Site, ledger: Ledger, message_id: str) -> None:
    from faststream_django.messages import Message

    while True:
        with ledger.attempt(message_id):
            site.connection.send(Message.encode(b"x", site.queue, message_id=message_id))
        if not ledger.was_refused(message_id):
            return
        time.sleep(RETRY)


def faults(options: argparse.Namespace) -> Iterator[Row]:
    """Let random faults happen, one after the other, with a pause of some seconds between them."""
    dice = random.Random(options.seed)
    errors = tuple({error for name in RANDOM for error in FAULTS[name].errors})
    seen: dict[str, list[float]] = {}
    problems: list[str] = []
    ledger = Ledger(*errors)
    with (
        node() as rabbitmq,
        open_site(rabbitmq, "soak-faults", queue_type=options.queue_type, **options.settings) as site,
    ):
        end = time.monotonic() + options.minutes * 60
        with Load(site.connection, ledger, to(site.queue), callers=options.callers):
            ledger.wait_for_acks(100)
            while time.monotonic() < end:
                name = dice.choice(RANDOM)
                lasts = dice.uniform(1, MOST) if FAULTS[name].lasts else 0.0
                moment = FAULTS[name].strike(site, lasts)
                time.sleep(dice.uniform(1, 4))
                with contextlib.suppress(TimeoutError):
                    ledger.wait_for_acks(50, timeout=30)
                recovery = ledger.longest_gap(moment)
                seen.setdefault(name, []).append(recovery)
                say(f"  {name} {lasts:.1f} s: confirms again after {recovery:.3f} s")
                bar = FAULTS[name].recovery + BUSY
                if recovery > bar:
                    problems.append(f"{name}: recovery {recovery:.3f} s > {bar:g} s")
        ledger.read(rabbitmq, [site.queue])
        if (count := len(rabbitmq.connections())) != 1:
            problems.append(f"{count} connections at the end")
    worst = ", ".join(f"{name} {len(times)}x {max(times):.2f} s" for name, times in seen.items())
    yield row(
        f"{options.minutes:g} min of random faults, seed {options.seed}",
        ledger.account(),
        options,
        notes=f"worst recovery: {worst}",
        problems=problems,
    )


def stalls(options: argparse.Namespace) -> Iterator[Row]:
    """Pause the node for long while 500 publishes of 1 kB are attempted each second."""
    for name, settings in (
        ("", {"timeout": 5.0, "connect_timeout": 3.0, "heartbeat": 10}),
        (" with a timeout as long", {"timeout": options.stall + 30, "heartbeat": 600}),
    ):
        with node() as rabbitmq, open_site(rabbitmq, "soak-stall", **settings) as site:
            seen = stall(site, options.stall)
        limit = site.connection.settings.timeout
        problems = []
        if seen.growth > 100 * 2**20:
            problems.append(f"memory grew by {seen.growth / 2**20:.0f} MB")
        if seen.refusal > 0.001:
            problems.append(f"a refusal took {seen.refusal * 1000:.2f} ms")
        if seen.longest > bar_for(limit):
            problems.append(f"longest call {seen.longest:.3f} s")
        yield Row(name=f"stall of {options.stall:g} s{name}", notes=str(seen), problems=tuple(problems))


def cluster(options: argparse.Namespace) -> Iterator[Row]:
    """Lose nodes of a cluster, with an address that leads to another node at once."""
    with contextlib.closing(RabbitMQCluster()) as three:
        three.start()
        for case in CASES:
            account, recovery = fail_over(three, case)
            problems = [f"recovery {recovery:.3f} s > 3 s"] if recovery > 3 else []
            yield row(
                f"cluster: {case} lost",
                account,
                options,
                notes=f"confirms again after {recovery:.2f} s",
                problems=problems,
            )


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "restarts": restarts,
    "faults": faults,
    "stall": stalls,
    "cluster": cluster,
}


def row(name: str, account: Account, options: argparse.Namespace, **more: Any) -> Row:
    """Hold the account against the guarantees."""
    problems = [f"{what}: {count}" for what, count in account.violations.items()]
    if account.longest > bar_for(options.timeout):
        problems.append(f"longest call {account.longest:.3f} s > {bar_for(options.timeout):.2f} s")
    return Row(
        name=name, account=account, notes=more["notes"], problems=(*problems, *more.get("problems", ()))
    )


def bar_for(timeout: float) -> float:
    return timeout + max(0.1 * timeout, 0.25) + BUSY


@contextlib.contextmanager
def node() -> Iterator[RabbitMQNode]:
    with contextlib.closing(RabbitMQNode()) as rabbitmq:
        rabbitmq.start()
        yield rabbitmq


def say(text: str) -> None:
    print(text, flush=True)


def show(rows: list[Row]) -> None:
    titles = [title.replace("_", " ") for title in COLUMNS]
    widths = [max(9, len(title)) for title in titles]
    name = max(len(each.name) for each in rows)
    heads = " ".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True))
    say(f"\n{'':{name}} {heads}   longest       p99")
    for each in rows:
        figures = ""
        if each.account is not None:
            values = (getattr(each.account, column) for column in COLUMNS)
            figures = " ".join(f"{value:>{width},}" for value, width in zip(values, widths, strict=True))
            figures += f" {each.account.longest:8.3f}s {each.account.p99:8.3f}s"
        say(f"{each.name:{name}} {figures}")
        say(f"{'':4}{each.notes}")
        for problem in each.problems:
            say(f"{'':4}BROKEN: {problem}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description="Run the long tests against RabbitMQ.")
    parser.add_argument("--parts", default=",".join(PARTS), help="of %(default)s")
    parser.add_argument("--messages", type=int, default=10_000, help="for each thread, in restarts")
    parser.add_argument("--threads", type=int, default=100, help="in restarts")
    parser.add_argument("--minutes", type=float, default=10.0, help="of random faults")
    parser.add_argument("--callers", type=int, default=8, help="threads in faults")
    parser.add_argument("--queue-type", default="quorum", choices=["classic", "quorum"], help="in faults")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--stall", type=float, default=300.0, help="seconds")
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds for a publish")
    options = parser.parse_args()
    if unknown := set(options.parts.split(",")) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.settings = {"timeout": options.timeout}
    return options


def main() -> int:
    options = arguments()
    django.setup()
    rows: list[Row] = []
    for part in options.parts.split(","):
        say(f"{part}: {PARTS[part].__doc__.splitlines()[0]}")
        try:
            rows.extend(PARTS[part](options))
        except Exception as error:
            rows.append(Row(name=part, problems=(f"{type(error).__name__}: {error}",)))
    show(rows)
    return 1 if any(each.problems for each in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
