"""The outbox of faststream_django: transactions of a site that publish, and the relay."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from itertools import repeat
from typing import Any, ClassVar

from benchmarks.consumer import Consumer
from benchmarks.contenders.backlog import BacklogContender, Watch
from benchmarks.contenders.base import BlockingContender, Publish
from benchmarks.django_site import configure, make_tables
from benchmarks.relaying import RelayProcess
from benchmarks.sample import Sample, measure
from faststream_django import brokers, publish_many_on_commit, publish_on_commit

OUTBOX: dict[str, Any] = {"apps": ("faststream_django.outbox", "benchmarks.orders"), "ON_COMMIT": "outbox"}
RELAYED: dict[str, Any] = {**OUTBOX, "OUTBOX": {"EAGER": False}}
BETWEEN = 0.01  # seconds between two arrivals: nothing is under way any more
GRACE = 5.0  # seconds, the default of the setting
PATIENCE = 30.0  # seconds


class Transactions(BlockingContender):
    """Threads that write an order in a transaction, and publish it; in `commits`, many messages of it."""

    site: ClassVar[dict[str, Any]] = {"apps": ("benchmarks.orders",)}

    def open(self) -> None:
        configure(self.url, database=self.addresses.database, **self.site)
        make_tables()
        super().open()

    def round(self) -> Sample:
        return self._arrivals() if self.workload.way == "arrivals" else super().round()

    def publisher(self) -> Publish:
        from django.db import connection

        connection.ensure_connection()
        return self._order

    def close(self) -> None:
        from django.db import connections

        for seat in self._seats:
            seat.submit(connections.close_all).result()
        connections.close_all()
        super().close()
        brokers.stop()

    @abstractmethod
    def publish(self, message: Any, order_id: int) -> None:
        """Publish, in the transaction of the order."""

    def _order(self, message: Any, on_commit: Callable[[], None] | None = None) -> None:
        from django.db import transaction

        from benchmarks.orders.models import Order

        with transaction.atomic():
            order = Order.objects.create(item=message["item"], quantity=message["quantity"])
            if on_commit:
                transaction.on_commit(on_commit)
            self.publish(message, order.pk)

    def _arrivals(self) -> Sample:
        """Measure the way from the commit to a consumer."""
        with Consumer(self.url, self.queue) as consumer:
            return measure(
                lambda: [self._arrival(consumer) for _ in range(self.workload.calls)], self.workload.total
            )

    def _arrival(self, consumer: Consumer) -> float:
        committed: list[float] = []
        self._order(self.workload.message, lambda: committed.append(time.monotonic()))
        arrived = consumer.wait()
        time.sleep(BETWEEN)
        return arrived - committed[0]


class NoMessage(Transactions):
    """Orders alone."""

    def publish(self, message: Any, order_id: int) -> None:
        """Publish nothing."""


class Memory(Transactions):
    """The messages wait in the memory of the process, and leave in its thread after the commit."""

    def publish(self, message: Any, order_id: int) -> None:  # noqa: ARG002
        publish_on_commit(message, self.queue)

    def publish_on_commit(self, _publish: Publish, message: Any) -> None:
        publish_on_commit(message, self.queue)


class MemoryMany(Memory):
    """The same by one call."""

    def _commit(self, _publish: Publish) -> None:
        from django.db import transaction

        with transaction.atomic():
            publish_many_on_commit(self.workload.messages(), self.queue)


class Outbox(Memory):
    """The messages are rows, which the sender thread of the process sends after the commit."""

    site: ClassVar[dict[str, Any]] = OUTBOX

    def finish(self) -> None:
        """Wait until the last message is confirmed and its row deleted."""
        if not _is_empty_within(GRACE + 1):
            _relay()  # what the sender thread left to it, as it may
        if not _is_empty_within(1):
            raise RuntimeError("neither the sender thread nor the relay has sent everything")


class OutboxMany(MemoryMany, Outbox):
    """The same by one call."""


class OutboxStored(Outbox):
    """The messages are rows, and only a relay sends them; here it does so after each round."""

    site: ClassVar[dict[str, Any]] = RELAYED

    def round(self) -> Sample:
        sample = super().round()
        _relay()
        return sample

    def finish(self) -> None:
        """Leave them where they are."""


class OutboxKeyed(Outbox):
    """Messages with an ordering key, sent by a relay in a process of its own, which NOTIFY wakes."""

    def open(self) -> None:
        super().open()
        self.closing.enter_context(RelayProcess(self.addresses))

    def publish(self, message: Any, order_id: int) -> None:
        publish_on_commit(message, self.queue, ordering_key=f"order-{order_id}")


class OutboxRelay(BacklogContender):
    """The relay, in the main thread of its process."""

    def open(self) -> None:
        configure(self.url, database=self.addresses.database, **RELAYED)
        make_tables()

    def fill(self, count: int) -> None:
        publish_many_on_commit(repeat(self.workload.message, count), self.queue)

    def relay(self) -> Watch:
        watch = Watch()
        _relay()
        watch.note()
        return watch

    def close(self) -> None:
        from django.db import connections

        brokers.stop()
        connections.close_all()


def _is_empty_within(seconds: float) -> bool:
    from faststream_django.outbox.models import OutboxMessage

    deadline = time.monotonic() + seconds
    while OutboxMessage.objects.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def _relay() -> None:
    """Do what faststream_relay --once does."""
    from faststream_django.outbox.relay.relay import Relay

    if not Relay("default", "default").run_once(threading.Event(), PATIENCE):
        raise RuntimeError("another relay leads")
