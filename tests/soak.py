"""The long run: two restarts under load, random faults, a long stall, a cluster that loses nodes, and an
outbox and an inbox whose processes, broker and database fail.

    make soak
    make soak ARGS="--only faults cluster --faults 180"

`make test` runs each fault once; this looks for what comes of many of them, one after another.
Every publish is held against what an independent client finds in the queues afterwards.
Prints one table at the end; the exit code is 1 if a guarantee was broken.
"""

import argparse
import contextlib
import itertools
import logging
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections, transaction

from faststream_django import publish_on_commit
from faststream_django.exceptions import BrokerRefused, MessageRejected, TooManyInFlight
from faststream_django.registry import brokers
from faststream_django.signals import message_failed, message_published
from tests.faults.failover import CASES, fail_over
from tests.faults.faults import AWAY, FAULTS
from tests.faults.load import BULK, HANG_AFTER, Load, share, to
from tests.faults.site import BUSY, SETTLED, TIMEOUT, Site, open_site, wait_until
from tests.faults.stall import Stall, stall
from tests.inbox.crash.workers import Workers
from tests.nodes import Account, Ledger, PostgreSQLCluster, RabbitMQCluster, RabbitMQNode
from tests.outbox.crash.crash import Plan, crash
from tests.outbox.crash.family import Family
from tests.outbox.crash.memory import watch_memory
from tests.outbox.crash.outage import outage
from tests.outbox.crash.takeover import WAYS, take_over

# Those that the queues of the load survive.
RANDOM = (
    "kill",
    "restart",
    "close all connections",
    "reset",
    "pause",
    "black hole",
    "black hole one way",
    "forgotten connections",
    "reset then mute",
    "delay",
    "alarm",
    "garbage from the broker",
    "garbage to the broker",
    "permission revoked",
)
SHORTEST, MOST = 0.5, 8.0  # seconds of a fault that lasts
RETURNED = 30.0  # seconds until a site that does not publish again is given up
ERRORS = {*AWAY, BrokerRefused, MessageRejected, TooManyInFlight, *FAULTS["alarm"].errors}
# Who publishes while faults happen: how many callers, and how often each does in a second.
KINDS = {"threads": (8, 50.0), "tasks": (8, 25.0), "bulk": (2, 5.0), "on_commit": (2, 5.0)}
LEAST = 100_000 / 600  # publishes a second of random faults: 100,000 in the whole run
SLOWEST = 100  # messages a second of the restarts, below which they are given up
RETRY = 0.02  # seconds until a message that was certainly not sent is published again
MOST_GROWTH = 100 * 2**20
LONGEST_REFUSAL = 0.001  # seconds
CLUSTER_RECOVERY = 3.0  # seconds
CRASHES = Plan(seconds=75.0, kills=100, broker_kills=3, terminations=30, stopped=60.0)
LEASE = 5.0  # seconds, of the takeovers
TAKEOVERS = 3  # of each kind
RELEASED = 0.5  # seconds until another relay sends after SIGTERM
ORDERS = 50.0  # a second
CAUGHT_UP = 5.0  # seconds until all is sent that was ordered while the broker was away
MOST_OF_RELAY = 20 * 2**20
COLUMNS = (
    *("attempted", "acked", "refused", "unknown", "found", "ghosts"),
    *("lost", "duplicated", "disowned", "strays", "wrong_class", "hung"),
)


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
    total = options.messages * options.callers
    with running_node() as node, open_site(node, "soak-restarts", queue_type="quorum") as site:
        ledger, make, giving_up = Ledger(*ERRORS), to(site.queue), threading.Event()
        threads = [
            threading.Thread(target=until_told, args=(site, ledger, make, count, giving_up), daemon=True)
            for count in map(len, share(range(total), options.callers))
        ]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        recoveries = []
        for goal, name in ((total // 3, "restart"), (total // 2, "kill")):
            ledger.wait_for_acks(max(0, goal - ledger.acked), timeout=RETURNED + goal / SLOWEST)
            moment = FAULTS[name].strike(site, 0)
            # A node that speaks AMQP again still reads its long queue, and confirms nothing to anybody.
            reading = confirmed_to_another_client(node, ledger, site.queue, f"after {name}") - moment
            ledger.wait_for_acks(min(500, total // 10), timeout=RETURNED)
            recoveries.append((name, ledger.longest_gap(moment), FAULTS[name].recovery + reading))
        end = time.monotonic() + RETURNED + total / SLOWEST
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        seconds = time.monotonic() - started
        giving_up.set()
        ledger.read(node, [site.queue])
    account = ledger.account()
    missing = total + len(recoveries) - account.found - (account.unknown - account.ghosts)
    yield row(
        f"restarts: {options.messages:,} x {options.callers}",
        account,
        notes=f"{total / seconds:,.0f}/s; {said(recoveries)}; {dict(ledger.errors)}",
        problems=[
            *([f"{missing:,} of {total:,} messages unaccounted for"] if missing else []),
            *too_late(recoveries),
        ],
    )


def confirmed_to_another_client(node: RabbitMQNode, ledger: Ledger, queue: str, message_id: str) -> float:
    """Publish with pika, and return when (time.monotonic) that was confirmed."""
    import pika

    ledger.foreign(message_id)
    properties = pika.BasicProperties(delivery_mode=2, message_id=message_id)
    with node.channel() as channel:
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"x", properties, mandatory=True)
        return time.monotonic()


def until_told(site: Site, ledger: Ledger, make: Callable, count: int, giving_up: threading.Event) -> None:
    """Publish so many messages, each until it is confirmed, or may have been sent."""
    for _ in range(count):
        message = make()
        while not giving_up.is_set():
            with ledger.attempt(message.message_id):
                site.connection.send(message)
            if not ledger.was_refused(message.message_id):
                break
            giving_up.wait(RETRY)


def faults(options: argparse.Namespace) -> Iterator[Row]:
    """Let random faults happen, one after the other, to callers of every kind, with calm in between."""
    dice = random.Random(options.seed)
    ledgers = {kind: Ledger(*ERRORS) for kind in KINDS}
    queues = {kind: f"soak-{kind}" for kind in KINDS}
    worst: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    problems: dict[str, list[str]] = {kind: [] for kind in KINDS}
    struck = 0
    with (
        migrated_database(),
        running_node() as node,
        open_site(node, "soak-faults", queue_type="quorum") as site,
    ):
        for queue in queues.values():
            node.declare_queue(queue, arguments={"x-queue-type": "quorum"})
        time.sleep(SETTLED)
        site.connection.send(to(site.queue)())
        tasks = site.tasks()
        with contextlib.ExitStack() as publishing:
            for kind, (callers, rate) in KINDS.items():
                load = committing if kind == "on_commit" else loading
                publishing.enter_context(load(site, kind, ledgers[kind], queues[kind], callers, rate))
            wait_for_each(ledgers, 100, problems)
            end = time.monotonic() + options.faults
            while time.monotonic() < end and not any(problems.values()):
                name = dice.choice(RANDOM)
                lasts = dice.uniform(SHORTEST, MOST) if FAULTS[name].lasts else 0.0
                moment = FAULTS[name].strike(site, lasts)
                struck += 1
                wait_for_each(ledgers, dice.randrange(40, 160), problems)
                gaps = {kind: ledger.longest_gap(moment) for kind, ledger in ledgers.items()}
                say(f"  {name} {lasts:.1f} s: confirms after {max(gaps.values()):.3f} s at the latest")
                for kind, gap in gaps.items():
                    worst[kind][name] = max(gap, worst[kind].get(name, 0.0))
        left = []
        if not wait_until(lambda: len(node.connections()) == 1, timeout=20):
            left.append(f"{len(node.connections())} connections at the end")
        if not wait_until(lambda: site.tasks() == tasks):
            left.append(f"{site.tasks()} tasks on the loop at the end, {tasks} at the beginning")
        for kind, ledger in ledgers.items():
            ledger.read(node, [queues[kind]])
    attempted = 0
    for kind, ledger in ledgers.items():
        recoveries = [(name, gap, FAULTS[name].recovery) for name, gap in worst[kind].items()]
        account = ledger.account()
        attempted += account.attempted
        yield row(
            f"faults: {kind}",
            account,
            notes=f"worst recovery: {said(recoveries)}; {dict(ledger.errors)}",
            problems=[*problems[kind], *too_late(recoveries)],
        )
    if attempted < LEAST * options.faults:
        left.append(f"only {attempted:,} publishes, {LEAST * options.faults:,.0f} are due")
    yield Row(
        name=f"faults: {struck} in {options.faults:g} s",
        notes=f"seed {options.seed}, {attempted:,} publishes",
        problems=tuple(left),
    )


def wait_for_each(ledgers: dict[str, Ledger], count: int, problems: dict[str, list[str]]) -> None:
    """Wait until each kind of caller has so many more confirms; note those that get none."""
    goals = {kind: ledger.acked + count for kind, ledger in ledgers.items()}
    for kind, goal in goals.items():
        try:
            ledgers[kind].wait_for_acks(max(0, goal - ledgers[kind].acked), timeout=RETURNED)
        except TimeoutError as error:
            problems[kind].append(f"it does not come back: {error}")


def loading(
    site: Site, kind: str, ledger: Ledger, queue: str, callers: int, rate: float
) -> contextlib.AbstractContextManager[object]:
    return Load(site.connection, ledger, to(queue, prefix=kind), kind=kind, callers=callers, rate=rate)


@contextlib.contextmanager
def committing(
    site: Site, kind: str, ledger: Ledger, queue: str, callers: int, rate: float
) -> Iterator[None]:
    """Publish with the verb, from threads that commit rows, until the block of code ends.

    What came of a message is what the signals say of it: a robust publish_on_commit() raises nothing.
    """
    numbers, ending = itertools.count(), threading.Event()

    def confirmed(message, **_):
        ledger.end(message.message_id)

    def failed(message, error, **_):
        ledger.end(message.message_id, error)

    def work() -> None:
        while not ending.wait(1 / rate):
            commit(ledger, queue, [f"{kind}{next(numbers)}" for _ in range(BULK)])
        connections.close_all()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(callers)]
    with brokers.replaced(lambda _: site.connection):
        message_published.connect(confirmed)
        message_failed.connect(failed)
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ending.set()
            for thread in threads:
                thread.join(TIMEOUT + HANG_AFTER)
            message_published.disconnect(confirmed)
            message_failed.disconnect(failed)


class RolledBack(Exception):
    """Ends a block of transaction.atomic()."""


def commit(ledger: Ledger, queue: str, message_ids: list[str]) -> None:
    """Commit messages; roll one back with a savepoint, and some with their whole transaction.

    Those that are rolled back are never attempted: the ledger calls them strays when it finds them.
    """
    from tests.test_app.models import Order

    cancelled, first, *others = message_ids
    number = int("".join(filter(str.isdigit, cancelled)))
    with contextlib.suppress(RolledBack), transaction.atomic():
        Order.objects.create(number=number)
        publish_on_commit("x", queue, message_id=first, timeout=TIMEOUT)
        with contextlib.suppress(RolledBack), transaction.atomic():
            publish_on_commit("x", queue, message_id=cancelled, timeout=TIMEOUT)
            raise RolledBack
        for message_id in others:
            publish_on_commit("x", queue, message_id=message_id, timeout=TIMEOUT)
        if number % (BULK * 5) == 0:
            raise RolledBack
        for message_id in (first, *others):
            ledger.begin(message_id)


def stalls(options: argparse.Namespace) -> Iterator[Row]:
    """Pause the node for long while 500 publishes of 1 kB are attempted each second."""
    for name, given in (
        ("as a site has it", {"timeout": 5.0, "connect_timeout": 3.0, "heartbeat": 10}),
        ("with a timeout as long", {"timeout": options.stall + 30, "heartbeat": 600}),
    ):
        with running_node() as node, open_site(node, "soak-stall", **given) as site:
            seen = stall(site, options.stall)
        yield Row(
            name=f"stall of {options.stall:g} s, {name}",
            notes=f"{seen} refusals={len(seen.refusals)} slowest={max(seen.refusals, default=0):.4f}",
            problems=tuple(problems_of(seen, given["timeout"])),
        )


def problems_of(seen: Stall, timeout: float) -> Iterator[str]:
    if seen.growth > MOST_GROWTH:
        yield f"memory grew by {seen.growth / 2**20:.0f} MB"
    if seen.refusal > LONGEST_REFUSAL:
        yield f"a refusal took {seen.refusal * 1000:.2f} ms (median)"
    if seen.longest > bar_for(timeout):
        yield f"longest call {seen.longest:.3f} s > {bar_for(timeout):.2f} s"


def cluster(options: argparse.Namespace) -> Iterator[Row]:
    """Lose nodes of a cluster, with an address that leads to another node at once."""
    with contextlib.closing(RabbitMQCluster()) as three:
        three.start()
        for case in CASES:
            account, recovery = fail_over(three, case)
            recoveries = [("failover", recovery, CLUSTER_RECOVERY)]
            yield row(f"cluster: {case} lost", account, notes=said(recoveries), problems=too_late(recoveries))


def crashes(options: argparse.Namespace) -> Iterator[Row]:
    """Kill writers, relays and the broker, end connections of the database, stop the relay that leads."""
    with running_family(LEASE=2.0, GRACE=1.0, BATCH=100, BACKOFF=(0.2, 1.0)) as family:
        account, struck = crash(family, CRASHES, options.seed)
    yield Row(
        name=f"outbox: {CRASHES.seconds:g} s of crashes",
        notes=f"seed {options.seed}, {account}; {', '.join(f'{n} x {what}' for what, n in struck.items())}",
        problems=tuple(f"{what}: {count}" for what, count in account.violations.items()),
    )


def takeovers(options: argparse.Namespace) -> Iterator[Row]:
    """Lose the relay that leads, in every way."""
    with running_family(LEASE=LEASE) as family:
        for way in WAYS:
            bar = RELEASED if way == "SIGTERM" else LEASE + 2.0
            took = [take_over(family, way) for _ in range(TAKEOVERS)]
            recoveries = [(way, max(took), bar)]
            yield Row(
                name=f"outbox: leader lost by {way}, LEASE {LEASE:g} s",
                notes=f"{said(recoveries)} of {', '.join(f'{each:.2f}' for each in took)}",
                problems=tuple(too_late(recoveries)),
            )


def outages(options: argparse.Namespace) -> Iterator[Row]:
    """Take the broker away from a site that takes orders all the time."""
    with running_family() as family:
        seen = outage(family, options.outage, ORDERS)
    recoveries = [("outage", seen.gone_after, CAUGHT_UP)]
    yield Row(
        name=f"outbox: broker away for {options.outage:g} s, {ORDERS:g} orders/s",
        notes=str(seen),
        problems=(
            *([f"failed requests: {Counter(seen.failed)}"] if seen.failed else []),
            *([f"lost: {seen.lost}"] if seen.lost else []),
            *too_late(recoveries),
        ),
    )


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """Watch the memory of a relay before many messages."""
    with running_family(queue_arguments={"x-max-length": 1000}) as family:
        seen = watch_memory(family, options.pending)
    yield Row(
        name=f"outbox: {options.pending:,} messages wait",
        notes=f"{options.pending / seen.seconds:,.0f}/s, {seen}",
        problems=(f"it grew by {seen.growth / 2**20:.0f} MB",) if seen.growth > MOST_OF_RELAY else (),
    )


def inbox(options: argparse.Namespace) -> Iterator[Row]:
    """Kill workers and the broker, and end connections of the database, while messages come twice."""
    with (
        running_node() as node,
        contextlib.closing(PostgreSQLCluster(int(settings.POSTGRESQL_PORT))) as postgresql,
    ):
        postgresql.start()
        with Workers(node, postgresql, seed=options.seed) as workers:
            effects = workers.crash(messages=10_000, copies=2, strikes=50, broker_kills=3)
    twice = sum(count > 1 for count in effects.values())
    yield Row(
        name="inbox: 20,000 deliveries of 10,000 messages",
        notes=f"seed {options.seed}; {', '.join(f'{n} x {what}' for what, n in workers.struck.items())}",
        problems=(f"{twice} messages had more than one effect",) if twice else (),
    )


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "restarts": restarts,
    "faults": faults,
    "stall": stalls,
    "cluster": cluster,
    "outbox": crashes,
    "outbox-takeover": takeovers,
    "outbox-outage": outages,
    "outbox-memory": memory,
    "inbox": inbox,
}

Recovery = tuple[str, float, float]  # what happened, the time without a confirm after it, and its bar


def said(recoveries: Iterable[Recovery]) -> str:
    return ", ".join(f"{name} {seconds:.2f} s (bar {bar:.2f})" for name, seconds, bar in recoveries)


def too_late(recoveries: Iterable[Recovery]) -> list[str]:
    return [
        f"recovery from {name} {seconds:.3f} s > {bar + BUSY:g} s"
        for name, seconds, bar in recoveries
        if seconds > bar + BUSY
    ]


def row(name: str, account: Account, *, notes: str, problems: Iterable[str]) -> Row:
    """Hold the account against the guarantees."""
    broken = [f"{what}: {count}" for what, count in account.violations.items()]
    if account.longest > bar_for(TIMEOUT):
        broken.append(f"longest call {account.longest:.3f} s > {bar_for(TIMEOUT):.2f} s")
    return Row(name=name, account=account, notes=notes, problems=(*broken, *problems))


def bar_for(timeout: float) -> float:
    """Return what a call may take; see tests/faults/site.py."""
    return timeout + max(0.1 * timeout, 0.25) + BUSY


@contextlib.contextmanager
def running_node() -> Iterator[RabbitMQNode]:
    with contextlib.closing(RabbitMQNode()) as node:
        node.start()
        yield node


@contextlib.contextmanager
def running_family(**outbox: object) -> Iterator[Family]:
    """Have the processes of an outbox, whatever TEST_DATABASE is."""
    with (
        running_node() as node,
        contextlib.closing(PostgreSQLCluster(int(settings.POSTGRESQL_PORT))) as postgresql,
    ):
        postgresql.start()
        with Family(node, postgresql, **outbox) as family:
            yield family


@contextlib.contextmanager
def migrated_database() -> Iterator[None]:
    """Have tables where settings.DATABASES are: PostgreSQL, or a file of SQLite that goes at the end."""
    with contextlib.ExitStack() as stack:
        if settings.DATABASE == "postgresql":
            postgresql = stack.enter_context(
                contextlib.closing(PostgreSQLCluster(int(settings.POSTGRESQL_PORT)))
            )
            postgresql.start()
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            settings.DATABASES["default"] |= {
                "NAME": str(Path(folder) / "soak.sqlite3"),
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 30},
            }
        call_command("migrate", verbosity=0)
        stack.callback(connections.close_all)
        yield


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
        if each.notes:
            say(f"{'':4}{each.notes}")
        for problem in each.problems:
            say(f"{'':4}BROKEN: {problem}")
    broken = sum(bool(each.problems) for each in rows)
    say(f"\n{broken} of {len(rows)} rows are BROKEN." if broken else "\nEvery guarantee was kept.")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="the parts to run")
    parser.add_argument("--messages", type=int, default=10_000, help="of each thread, in restarts")
    parser.add_argument("--callers", type=int, default=100, help="threads, in restarts")
    parser.add_argument("--faults", type=float, default=600, help="seconds of random faults")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--stall", type=float, default=300, help="seconds of each stall")
    parser.add_argument("--outage", type=float, default=60, help="seconds without a broker, in outbox-outage")
    parser.add_argument("--pending", type=int, default=1_000_000, help="messages, in outbox-memory")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    django.setup()
    # What is lost is in the ledger; what the log says of it would bury the table.
    logging.getLogger("faststream_django").addHandler(logging.NullHandler())
    rows: list[Row] = []
    for part in options.only:
        say(f"{part}: {PARTS[part].__doc__.splitlines()[0]}")
        started = time.monotonic()
        try:
            rows.extend(PARTS[part](options))
        except Exception as error:
            traceback.print_exc()
            rows.append(Row(name=part, problems=(f"{type(error).__name__}: {error}",)))
        say(f"{part}: {time.monotonic() - started:.0f} s")
    show(rows)
    return 1 if any(each.problems for each in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
