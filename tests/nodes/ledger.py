"""What callers were told about each message, held against what an independent client finds."""

import bisect
import contextlib
import itertools
import statistics
import threading
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from .rabbitmq import RabbitMQNode

READ_TIMEOUT = 10.0  # seconds that the next message of a queue may take to come


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The sums of a ledger. Times in seconds."""

    attempted: int
    acked: int
    refused: int
    """Told "not sent": an error with `maybe_sent` False."""
    unknown: int
    """Told "perhaps": an error with `maybe_sent` True."""
    found: int
    """Different messages in the queues."""
    ghosts: int
    """Unknown and found: allowed, and the reason why the outcome is called unknown."""
    lost: int
    """Acked and not found."""
    duplicated: int
    disowned: int
    """Told "not sent", and found."""
    strays: int
    """Found, and never attempted."""
    wrong_class: int
    """Errors that this fault cannot be the reason of, or that are no PublishError at all."""
    hung: int
    """Calls that did not end."""
    longest: float
    p99: float

    @property
    def violations(self) -> dict[str, int]:
        """Return what must be 0 and is not."""
        promises = ("lost", "duplicated", "disowned", "strays", "wrong_class", "hung")
        return {name: count for name in promises if (count := getattr(self, name))}

    def __str__(self) -> str:
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return " ".join(
            f"{name}={value:.3f}" if isinstance(value, float) else f"{name}={value}" for name, value in values
        )


class Ledger:
    """Notes what came of every publish, from any thread.

    `expected` are the exact classes of the errors that a fault may end in.
    A message that was refused may be attempted again with its id; the last answer counts, and a refusal
    that was a lie is a duplicate then.
    """

    def __init__(self, *expected: type[BaseException]) -> None:
        self.errors: Counter[str] = Counter()
        self._expected = expected
        self._lock = threading.Lock()
        self._under_way: dict[str, float] = {}
        self._told: dict[str, bool | None] = {}  # None: acked, else maybe_sent
        self._found: Counter[str] = Counter()
        self._durations = array("d")
        self._acked_at = array("d")
        self._refused = self._unknown = self._wrong_class = self._forgiven = 0

    @contextlib.contextmanager
    def attempt(self, message_id: str) -> Iterator[None]:
        """Note one publish; its error goes into the ledger and no further."""
        self.begin(message_id)
        try:
            yield
        except BaseException as error:
            self.end(message_id, error)
        else:
            self.end(message_id)

    def begin(self, message_id: str) -> None:
        with self._lock:
            self._under_way[message_id] = time.monotonic()

    def end(self, message_id: str, error: BaseException | None = None) -> None:
        now = time.monotonic()
        with self._lock:
            self._durations.append(now - self._under_way.pop(message_id))
            if error is None:
                self._told[message_id] = None
                self._acked_at.append(now)
                return
            maybe_sent = bool(getattr(error, "maybe_sent", True))
            self._told[message_id] = maybe_sent
            self._refused += not maybe_sent
            self._unknown += maybe_sent
            self._wrong_class += type(error) not in self._expected
            self.errors[f"{type(error).__name__}{'?' if maybe_sent else ''}"] += 1

    def was_refused(self, message_id: str) -> bool:
        """Tell whether the last answer was "not sent"."""
        return self._told.get(message_id) is False

    @property
    def acked(self) -> int:
        return len(self._acked_at)

    def longest_gap(self, since: float) -> float:
        """Return the longest time without a confirm after a moment (time.monotonic), in seconds."""
        with self._lock:
            after = self._acked_at[bisect.bisect_left(self._acked_at, since) :]
        if not after:
            return float("inf")
        return max(later - earlier for earlier, later in itertools.pairwise([since, *after]))

    def wait_for_acks(self, count: int, timeout: float = 20.0) -> None:
        """Wait until `count` more publishes are confirmed."""
        goal, deadline = self.acked + count, time.monotonic() + timeout
        while self.acked < goal:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.acked - goal + count} of {count} acks within {timeout} s")
            time.sleep(0.005)

    def forgive(self, count: int) -> None:
        """Note that the test itself destroyed messages, with their queue."""
        self._forgiven += count

    def read(self, node: RabbitMQNode, queues: Iterable[str]) -> None:
        """Take every message out of the queues, with pika."""
        for queue in queues:
            for message_id, _ in messages_in(node, queue):
                self.find(message_id)

    def foreign(self, message_id: str) -> None:
        """Note a message that another client has put into the queues."""
        self._told[message_id] = None

    def find(self, message_id: str) -> None:
        """Note a message that is in a queue."""
        self._found[message_id] += 1

    def account(self) -> Account:
        """Add up. Calls that are still under way count as hung."""
        told = self._told
        acked = {message_id for message_id, answer in told.items() if answer is None}
        found = self._found.keys()
        durations = self._durations or array("d", [0.0])
        return Account(
            attempted=len(self._durations) + len(self._under_way),
            acked=len(self._acked_at),
            refused=self._refused,
            unknown=self._unknown,
            found=len(found),
            ghosts=sum(told.get(message_id) is True for message_id in found),
            lost=max(0, len(acked - found) - self._forgiven),
            duplicated=sum(count - 1 for count in self._found.values()),
            disowned=sum(told.get(message_id) is False for message_id in found),
            strays=sum(message_id not in told and message_id not in self._under_way for message_id in found),
            wrong_class=self._wrong_class,
            hung=len(self._under_way),
            longest=max(durations),
            p99=statistics.quantiles(durations, n=100)[98] if len(durations) > 1 else durations[0],
        )


def messages_in(node: RabbitMQNode, queue: str) -> Iterator[tuple[Any, bytes]]:
    """Yield the ids and bodies of the messages in a queue, with pika, in their order."""
    with node.channel() as channel:
        channel.basic_qos(prefetch_count=2000)
        while waiting := channel.queue_declare(queue, passive=True).method.message_count:
            for method, properties, body in channel.consume(queue, inactivity_timeout=READ_TIMEOUT):
                if method is None:
                    raise TimeoutError(f"{waiting} messages of {queue!r} did not come")
                yield properties.message_id, body
                waiting -= 1
                if waiting % 500 == 0:
                    channel.basic_ack(method.delivery_tag, multiple=True)
                if waiting == 0:
                    break
            channel.cancel()  # what came too early goes back
