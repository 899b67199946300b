"""Many callers at once: nobody is forgotten, nobody pays for another, memory stays bounded."""

import itertools
import threading
import time
import uuid

import pytest

from faststream_django.exceptions import InvalidMessage, MessageRejected, MessageUnroutable
from faststream_django.messages import Message
from tests.nodes import Ledger

from .load import Load, share, to
from .site import USER, open_site
from .stall import stall

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


@pytest.fixture
def patient_site(rabbitmq):
    """A connection with the timeouts of a real site."""
    name = f"faults-{uuid.uuid4().hex}"
    with open_site(rabbitmq, name, timeout=5.0, connect_timeout=3.0, heartbeat=10) as site:
        yield site


def test_200_threads_at_once_are_all_served(patient_site):
    """The figure of the guarantee, 2,000 messages a second, is for a machine that does nothing else."""
    site, ledger = patient_site, Ledger()

    started = time.monotonic()
    with Load(site.connection, ledger, to(site.queue), callers=200, rate=1000):
        ledger.wait_for_acks(10_000, timeout=60)
    rate = ledger.acked / (time.monotonic() - started)
    ledger.read(site.node, [site.queue])

    account = ledger.account()
    print(f"{account} rate={rate:.0f}/s")
    assert account.violations == {}
    assert not ledger.errors
    assert rate >= 300


def test_stall_costs_little_memory_and_what_is_too_much_is_refused_at_once(rabbitmq):
    name = f"faults-{uuid.uuid4().hex}"
    with open_site(rabbitmq, name, timeout=30.0, heartbeat=60) as site:
        seen = stall(site, 5)

    print(seen)
    assert seen.growth <= 100 * 2**20
    assert seen.refusal <= 0.1  # the timeout is 30 s
    assert seen.outcomes["confirmed"] >= 1000  # the window, once the node goes on
    assert set(seen.outcomes) == {"confirmed", "TooManyInFlight"}


def test_thousand_good_publishes_are_not_hurt_by_bad_ones_of_every_kind(patient_site):
    site, node = patient_site, patient_site.node
    full = node.declare_queue(arguments=FULL)
    node.publish(b"fills it", full)
    node.declare_exchange("faults-forbidden")
    node.ctl("set_permissions", USER, "", "^(?!faults-forbidden)", "")
    makers = {
        "unroutable": (MessageUnroutable, lambda: Message.encode(b"x", "no-such-queue")),
        "no exchange": (MessageUnroutable, lambda: Message.encode(b"x", "q", "no-such-exchange")),
        "header": (InvalidMessage, lambda: Message.encode(b"x", site.queue, headers={"a\r\nb": 1})),
        "too big": (InvalidMessage, lambda: Message.encode(b"x" * 2**21, site.queue)),
        "full queue": (MessageRejected, lambda: Message.encode(b"x", full)),
        "forbidden": (MessageRejected, lambda: Message.encode(b"x", "q", "faults-forbidden")),
    }
    bad = {kind: Ledger(error) for kind, (error, _) in makers.items()}
    good, make = Ledger(), to(site.queue, prefix="good")
    ending = threading.Event()

    def misbehave(kind):
        for number in itertools.count():
            if ending.wait(0.01):
                return
            with bad[kind].attempt(f"{kind}{number}"):
                site.connection.send(makers[kind][1]())

    def behave(numbers):
        for _ in numbers:
            message = make()
            with good.attempt(message.message_id):
                site.connection.send(message)
            ending.wait(0.01)

    badly = [threading.Thread(target=misbehave, args=(kind,), daemon=True) for kind in makers]
    well = [threading.Thread(target=behave, args=(part,), daemon=True) for part in share(range(1000), 10)]
    for thread in badly + well:
        thread.start()
    for thread in well:
        thread.join(60)
    ending.set()
    for thread in badly:
        thread.join(60)

    good.read(node, [site.queue])
    account = good.account()
    print(account, {kind: dict(ledger.errors) for kind, ledger in bad.items()})
    assert (account.acked, account.found, account.violations) == (1000, 1000, {})
    assert not good.errors
    for kind, ledger in bad.items():
        account = ledger.account()
        assert (account.acked, account.wrong_class, account.hung) == (0, 0, 0), kind
        assert account.refused > 10, kind
    assert len(node.connections()) == 1
    node.delete_queue(full)
    node.delete_exchange("faults-forbidden")
