"""The long run: restarts under load, random faults, a stall, a cluster; ends with 1 on a broken promise.

    make soak
    make soak ARGS="--only faults cluster --faults 180"

`make test` runs each fault once; this looks for what comes of many of them, one after another.
"""

import argparse
import contextlib
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from faststream_django.exceptions import BrokerRefused, MessageRejected, TooManyInFlight

from .faults.failover import CASES, fail_over
from .faults.faults import AWAY, FAULTS
from .faults.load import Load, share, to
from .faults.site import BUSY, TIMEOUT, TOLERANCE, Site, open_site
from .faults.stall import stall
from .nodes import Account, Ledger, RabbitMQCluster, RabbitMQNode

# Those that the queue of the load survives.
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
ERRORS = {*AWAY, BrokerRefused, MessageRejected, TooManyInFlight, *FAULTS["alarm"].errors}
CALM = 2.0  # seconds of undisturbed work between two faults
MOST_GROWTH = 100 * 2**20
CLUSTER_RECOVERY = 3.0  # seconds


def restarts(options: argparse.Namespace) -> bool:
    """Publish every message, again as long as it is known not to be sent, while the node restarts twice."""
    with _site("quorum") as site:
        ledger, make = Ledger(*ERRORS), to(site.queue)

        def publish(numbers: list[int]) -> None:
            for _ in numbers:
                message = make()
                while True:
                    with ledger.attempt(message.message_id):
                        site.connection.send(message)
                    if not ledger.was_refused(message.message_id):
                        break
                    time.sleep(0.01)  # what a caller does that tries again

        with ThreadPoolExecutor(options.callers) as pool:
            done = [pool.submit(publish, part) for part in share(range(options.messages), options.callers)]
            for goal in (options.messages // 3, options.messages // 2):
                ledger.wait_for_acks(max(0, goal - ledger.acked), timeout=120)
                FAULTS["kill"].strike(site, 0)
            for future in done:
                future.result()
        ledger.read(site.node, [site.queue])
    account = ledger.account()
    _tell("restarts", account)
    return not account.violations and account.acked + account.unknown >= options.messages


def faults(options: argparse.Namespace) -> bool:
    """Publish from eight threads while one fault after another happens, for so many seconds."""
    chance = random.Random(options.seed)
    with _site("quorum") as site:
        ledger, struck = Ledger(*ERRORS), 0
        end = time.monotonic() + options.faults
        with Load(site.connection, ledger, to(site.queue)):
            while time.monotonic() < end:
                name = chance.choice(RANDOM)
                FAULTS[name].strike(site, chance.uniform(0.5, 3.0))
                struck += 1
                ledger.wait_for_acks(int(CALM * 100), timeout=60)
        site.node.recover()
        ledger.read(site.node, [site.queue])
    account = ledger.account()
    _tell(f"faults ({struck}, seed {options.seed})", account)
    return not account.violations and account.longest <= TIMEOUT + TOLERANCE + 2 * BUSY


def long_stall(options: argparse.Namespace) -> bool:
    """Attempt 500 publishes of 1 kB a second while the node stands still, for so many seconds."""
    with _site("classic", timeout=5.0, heartbeat=60) as site:
        seen = stall(site, options.stall)
    print(f"stall ({options.stall:g} s): {seen}", flush=True)
    return seen.growth <= MOST_GROWTH and seen.longest <= 5.0 + 0.5 + 2 * BUSY


def cluster(options: argparse.Namespace) -> bool:
    """Lose each node of a cluster of three in turn, under load."""
    kept = True
    with contextlib.closing(RabbitMQCluster()) as nodes:
        nodes.start()
        for case in CASES:
            account, recovery = fail_over(nodes, case)
            print(f"cluster, {case} lost: recovery {recovery:.2f} s", flush=True)
            kept &= not account.violations and recovery <= CLUSTER_RECOVERY
    return kept


PARTS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "restarts": restarts,
    "faults": faults,
    "stall": long_stall,
    "cluster": cluster,
}


@contextlib.contextmanager
def _site(queue_type: str, **settings: float) -> Iterator[Site]:
    node = RabbitMQNode()
    with contextlib.closing(node):
        node.start()
        with open_site(node, f"soak-{uuid.uuid4().hex}", queue_type=queue_type, **settings) as site:
            yield site


def _tell(title: str, account: Account) -> None:
    print(f"{title}: {account}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="the parts to run")
    parser.add_argument("--messages", type=int, default=10_000, help="of the restarts")
    parser.add_argument("--callers", type=int, default=100, help="threads of the restarts")
    parser.add_argument("--faults", type=float, default=600, help="seconds of random faults")
    parser.add_argument("--stall", type=float, default=300, help="seconds of the stall")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()

    kept = {name: PARTS[name](options) for name in options.only}

    print()
    for name, is_kept in kept.items():
        print(f"{name:<12}{'all promises kept' if is_kept else 'BROKEN'}")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
