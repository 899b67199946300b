"""One fault after the other under load: every call ends in time, and the ledger holds.

Counts are never tried twice. A time is, once: two cores are shared by the load, the node and the test.
"""

import threading

import pytest

from tests.nodes import Ledger

from .faults import FAULTS, Fault
from .load import Load, to
from .site import BUSY, TIMEOUT, TOLERANCE, Site, wait_until

LONGEST = TIMEOUT + TOLERANCE + BUSY


@pytest.mark.parametrize("site", ["classic", "quorum"], indirect=True)
@pytest.mark.parametrize("name", ["kill", "restart"])
def test_node_comes_back_under_load(site, name):
    endure(site, FAULTS[name])


@pytest.mark.parametrize(
    "name",
    [
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
    ],
)
def test_connection_comes_back_under_load(site, name):
    endure(site, FAULTS[name])


def test_queue_that_is_deleted_hurts_no_other(site, neighbour):
    endure(site, FAULTS["queue deleted"], neighbour)


def test_exchange_that_comes_back_with_another_type_hurts_no_other(site, neighbour):
    site.exchange = "faults-changing"
    site.node.declare_exchange(site.exchange)
    site.node.bind(site.queue, site.exchange, site.queue)

    endure(site, FAULTS["exchange changed"], neighbour)

    site.node.delete_exchange(site.exchange)


def test_message_that_waits_for_its_confirm_is_not_called_unsent_for_the_fault_of_a_later_one(site):
    """RabbitMQ closes the channel for the later one; the earlier one is in the queue all the same."""
    site.exchange = "faults-changing"
    site.node.declare_exchange(site.exchange)
    site.node.bind(site.queue, site.exchange, site.queue)
    ledger, make = Ledger(*FAULTS["exchange changed"].errors), to(site.queue, exchange=site.exchange)
    publish(site, ledger, make())

    with site.node.suspended(site.queue):
        earlier = threading.Thread(target=publish, args=(site, ledger, make(), 10))
        earlier.start()
        assert wait_until(lambda: site.node.unconfirmed() == 1)
        site.node.delete_exchange(site.exchange)
        publish(site, ledger, make())
        earlier.join()
    ledger.read(site.node, [site.queue])

    account = ledger.account()
    assert account.violations == {}
    assert (account.acked, account.refused + account.unknown, account.found) == (1, 2, 2)


def publish(site, ledger, message, timeout=None):
    with ledger.attempt(message.message_id):
        site.connection.send(message, timeout)


@pytest.fixture
def neighbour(rabbitmq):
    name = rabbitmq.declare_queue()
    yield name
    rabbitmq.delete_queue(name)


@pytest.mark.parametrize(
    ("kind", "callers", "rate"),
    [
        ("threads", 1, 100),
        ("threads", 200, 5),
        ("tasks", 200, 5),
        ("bulk", 4, 20),
    ],
)
@pytest.mark.parametrize("name", ["reset", "pause", "forgotten connections"])
def test_every_kind_of_caller_is_served(site, name, kind, callers, rate):
    endure(site, FAULTS[name], kind=kind, callers=callers, rate=rate)


def endure(site: Site, fault: Fault, neighbour: str = "", **load: object) -> None:
    """Let the fault happen under load; hold the ledger and the times against the bars."""
    if not strike(site, fault, neighbour, **load):
        assert strike(site, fault, neighbour, **load)


def strike(site: Site, fault: Fault, neighbour: str, **load: object) -> bool:
    """Return whether the times are kept; the counts must be right anyway."""
    ledger, beside = Ledger(*fault.errors), Ledger()
    make, make_beside = to(site.queue, exchange=site.exchange), to(neighbour)
    site.destroyed = 0
    publish(site, ledger, make())
    if neighbour:
        publish(site, beside, make_beside())
    tasks = site.tasks()

    with (
        Load(site.connection, ledger, make, **load),
        Load(site.connection, beside, make_beside, callers=2 if neighbour else 0),
    ):
        ledger.wait_for_acks(100)
        moment = fault.strike(site, fault.lasts)
        ledger.wait_for_acks(1)
        ledger.wait_for_acks(200)

    ledger.forgive(site.destroyed)
    ledger.read(site.node, [site.queue])
    account, recovery = ledger.account(), ledger.longest_gap(moment)
    print(f"{account} recovery={recovery:.3f} errors={dict(ledger.errors)}")
    assert account.violations == {}
    if neighbour:
        beside.read(site.node, [neighbour])
        assert beside.account().violations == {}
        assert not beside.errors
    assert wait_until(lambda: site.tasks() == tasks)
    assert wait_until(lambda: len(site.node.connections()) == 1, timeout=20)
    return account.longest <= LONGEST and recovery <= fault.recovery
