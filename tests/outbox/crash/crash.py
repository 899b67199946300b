"""Writers, relays, the broker and connections of the database fail at random."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.nodes.ledger import messages_in

from .account import OutboxAccount, account
from .family import RELAY, Family, wait_until
from .writer import QUEUE

SENT = 60.0  # seconds within which all is sent once nothing fails any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens within so many seconds."""

    seconds: float
    kills: int
    broker_kills: int
    terminations: int
    """Database connections, three at a time."""
    stopped: float
    """Seconds for which the relay that leads is stopped."""
    pause: float = 0.02
    """Seconds between two transactions of a writer, about."""
    writers: int = 4
    relays: int = 2


@dataclass(slots=True)
class Crash:
    """Runs a plan; for one thread."""

    family: Family
    plan: Plan
    dice: random.Random
    struck: Counter[str]
    stopped: str = ""
    """The relay that is stopped."""
    restarting: threading.Thread | None = None

    def run(self) -> OutboxAccount:
        family, plan = self.family, self.plan
        writers = [f"writer{number}" for number in range(plan.writers)]
        relays = [f"relay{number}" for number in range(plan.relays)]
        for name in relays:
            family.start(name, *RELAY)
        for name in writers:
            family.start(name, "write", str(plan.pause))
        wait_until(lambda: family.leader() and self._committed() > 100, SENT, "the first messages")
        began = time.monotonic()
        for moment, strike in self._moments():
            time.sleep(max(0.0, began + moment - time.monotonic()))
            family.refuse_deaths()
            strike()
        self._resume()
        if self.restarting:
            self.restarting.join()
        for name in writers:
            family.send(name, signal.SIGTERM)
        for name in writers:
            family.wait(name)
        wait_until(lambda: not family.left(), SENT, f"an empty outbox, {family.left()} rows are left")
        for name in relays:
            family.send(name, signal.SIGTERM)
        for name in relays:
            family.wait(name)
        return account(family, messages_in(family.node, QUEUE))

    def _committed(self) -> int:
        count: int = self.family.ask("SELECT count(*) FROM committed")
        return count

    def _moments(self) -> list[tuple[float, Callable[[], None]]]:
        """Return what is to happen, and when."""
        plan, dice = self.plan, self.dice
        moments: list[tuple[float, Callable[[], None]]] = []
        for strike, count in (
            (self._kill, plan.kills),
            (self._terminate, -(-plan.terminations // 3)),
        ):
            moments += [(dice.uniform(0, plan.seconds), strike) for _ in range(count)]
        # Spread out: it takes a while until the broker is back.
        step = plan.seconds / (plan.broker_kills + 1)
        moments += [(step * (number + 1), self._kill_broker) for number in range(plan.broker_kills)]
        if plan.stopped:
            stop = dice.uniform(0.05, 0.1) * plan.seconds
            moments += [(stop, self._stop), (min(stop + plan.stopped, plan.seconds), self._resume)]
        return sorted([*moments, (plan.seconds, lambda: None)], key=lambda each: each[0])

    def _kill(self) -> None:
        names = [f"writer{number}" for number in range(self.plan.writers)]
        names += [f"relay{number}" for number in range(self.plan.relays)]
        name = self.dice.choice([each for each in names if each != self.stopped])
        self.family.kill(name)
        self.family.start(name)
        self.struck[f"{name.rstrip('0123456789')} killed"] += 1

    def _terminate(self) -> None:
        self.struck["connections terminated"] += self.family.terminate_connections(3)

    def _kill_broker(self) -> None:
        if self.restarting:
            self.restarting.join()
        self.family.node.kill()
        self.struck["broker killed"] += 1
        self.restarting = threading.Thread(target=self.family.node.start)
        self.restarting.start()

    def _stop(self) -> None:
        """Freeze the relay that leads."""
        while not (name := self.family.leader()):
            time.sleep(0.01)
        self.family.send(name, signal.SIGSTOP)
        self.stopped = name
        self.struck[f"leader stopped for {self.plan.stopped:g} s"] += 1

    def _resume(self) -> None:
        if self.stopped:
            self.family.send(self.stopped, signal.SIGCONT)
            self.stopped = ""


def crash(family: Family, plan: Plan, seed: int) -> tuple[OutboxAccount, Counter[str]]:
    """Run the plan; return the account, and what happened."""
    run = Crash(family, plan, random.Random(seed), Counter())
    return run.run(), run.struck
