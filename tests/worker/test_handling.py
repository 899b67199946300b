"""Places for handlers, and the memory of what was handled, without a broker."""

import asyncio
from types import SimpleNamespace

import pytest

from faststream_django.backends.rabbit.consuming_delivery import Delivery
from faststream_django.backends.rabbit.received import Received
from faststream_django.worker import handling
from faststream_django.worker.handling import Handling
from faststream_django.worker.places import note_moved


class FakeChannel:
    """Notes what is settled on it."""

    def __init__(self):
        self.settled = []

    def settle(self, tag, outcome):
        self.settled.append((tag, outcome.value))

    def deliveries_up_to(self, tag):
        return []


class Wanted:
    """A subscription whose handler notes what it gets and waits for `go_on`."""

    acks_first = False

    def __init__(self, queue="orders", running=True):
        self.queue = SimpleNamespace(name=queue)
        self.subscriber = SimpleNamespace(running=running)
        self.begun = []
        self.go_on = asyncio.Event()

    async def consume(self, message):
        self.begun.append(message.body.decode())
        await self.go_on.wait()
        await message.ack()


def deliver(subscription, channel, tag, message_id="id", *, redelivered=False, headers=None, body=None):
    received = Received("tag", tag, is_redelivered=redelivered, exchange="", routing_key="orders")
    received.properties.message_id, received.properties.headers = message_id, headers
    received.body = (body or message_id or "").encode()
    return Delivery(subscription, channel, received)


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


def scenario(function):
    """Run a test that is a coroutine."""

    def test(*args, **kwargs):
        asyncio.run(function(*args, **kwargs))

    test.__name__ = function.__name__
    return test


def make(concurrency=2):
    return Handling(concurrency, is_threaded=lambda subscription: True)


@scenario
async def test_message_waits_for_a_place():
    many, channel, orders = make(2), FakeChannel(), Wanted()

    for tag in (1, 2, 3):
        many.take(deliver(orders, channel, tag, f"id-{tag}"))
    await turns()
    assert orders.begun == ["id-1", "id-2"]
    orders.go_on.set()
    await turns()

    assert orders.begun == ["id-1", "id-2", "id-3"]
    assert channel.settled == [(1, "ack"), (2, "ack"), (3, "ack")]
    assert many.handled == 3
    assert not many.running


@scenario
async def test_copy_of_what_runs_is_settled_with_it():
    many, first, second, orders = make(), FakeChannel(), FakeChannel(), Wanted()

    many.take(deliver(orders, first, 1))
    await turns()
    many.take(deliver(orders, second, 7, redelivered=True))
    orders.go_on.set()
    await turns()

    assert orders.begun == ["id"]
    assert second.settled == [(7, "ack")]


@scenario
async def test_copy_of_what_is_done_is_acknowledged():
    many, first, second, orders = make(), FakeChannel(), FakeChannel(), Wanted()
    orders.go_on.set()

    many.take(deliver(orders, first, 1))
    await turns()
    many.take(deliver(orders, second, 7, redelivered=True))
    await turns()

    assert orders.begun == ["id"]
    assert second.settled == [(7, "ack")]


@scenario
async def test_message_that_was_published_again_is_no_copy_of_what_is_done():
    """As a dead letter that is replayed: its copy must not be acknowledged before it is handled."""
    many, first, second, orders = make(), FakeChannel(), FakeChannel(), Wanted()
    orders.go_on.set()
    many.take(deliver(orders, first, 1))
    await turns()
    orders.go_on.clear()

    many.take(deliver(orders, first, 2))
    await turns()
    many.take(deliver(orders, second, 7, redelivered=True))
    await turns()

    assert orders.begun == ["id", "id"]
    assert second.settled == []
    orders.go_on.set()
    await turns()
    assert second.settled == [(7, "ack")]


@scenario
async def test_message_that_lies_in_another_queue_is_not_remembered_as_done():
    """Another worker may have been killed with its replay: that must not be acknowledged here unhandled."""
    many, first, second, orders = make(), FakeChannel(), FakeChannel(), Wanted()
    orders.go_on.set()

    async def move(message):
        orders.begun.append(message.body.decode())
        note_moved()
        await message.ack()

    orders.consume = move
    many.take(deliver(orders, first, 1))
    await turns()
    many.take(deliver(orders, second, 7, redelivered=True))
    await turns()

    assert orders.begun == ["id", "id"]


@pytest.mark.parametrize(
    "other",
    [
        {"message_id": None, "redelivered": True},
        {"message_id": "another", "redelivered": True},
        {"body": "another", "redelivered": True},
        {"headers": {"faststream-attempts": 1}, "redelivered": True},
        {"redelivered": False},
    ],
    ids=",".join,
)
def test_other_message_is_handled(other):
    @scenario
    async def test():
        many, channel, orders = make(), FakeChannel(), Wanted()
        orders.go_on.set()

        many.take(deliver(orders, channel, 1, body="body"))
        await turns()
        many.take(deliver(orders, channel, 2, **({"message_id": "id", "body": "body"} | other)))
        await turns()

        assert len(orders.begun) == 2

    test()


@scenario
async def test_equal_messages_without_an_id_are_both_handled():
    many, channel, orders = make(), FakeChannel(), Wanted()
    orders.go_on.set()

    many.take(deliver(orders, channel, 1, None, body="same"))
    await turns()
    many.take(deliver(orders, channel, 2, None, body="same", redelivered=True))
    await turns()

    assert orders.begun == ["same", "same"]


@scenario
async def test_same_message_of_another_queue_is_handled():
    many, channel, orders, others = make(), FakeChannel(), Wanted("orders"), Wanted("others")
    orders.go_on.set()

    many.take(deliver(orders, channel, 1))
    await turns()
    many.take(deliver(others, channel, 2, redelivered=True))
    await turns()

    assert others.begun == ["id"]


@scenario
async def test_count_that_the_broker_adds_makes_no_other_message():
    many, channel, orders = make(), FakeChannel(), Wanted()
    orders.go_on.set()

    many.take(deliver(orders, channel, 1, headers={"mine": 1}))
    await turns()
    many.take(deliver(orders, channel, 2, headers={"mine": 1, "x-delivery-count": 1}, redelivered=True))
    await turns()

    assert orders.begun == ["id"]


@scenario
async def test_what_was_given_back_is_handled_again():
    many, channel, orders = make(), FakeChannel(), Wanted()

    async def refuse(message):
        orders.begun.append(message.body.decode())
        await message.nack(requeue=True)

    orders.consume = refuse
    many.take(deliver(orders, channel, 1))
    await turns()
    many.take(deliver(orders, channel, 2, redelivered=True))
    await turns()

    assert orders.begun == ["id", "id"]
    assert channel.settled == [(1, "requeue"), (2, "requeue")]


@scenario
async def test_rejected_message_that_comes_again_is_handled_again():
    many, channel, orders = make(), FakeChannel(), Wanted()

    async def reject(message):
        orders.begun.append(message.body.decode())
        await message.reject()

    orders.consume = reject
    many.take(deliver(orders, channel, 1))
    await turns()
    many.take(deliver(orders, channel, 2, redelivered=True))
    await turns()

    assert orders.begun == ["id", "id"]


@scenario
async def test_oldest_messages_are_forgotten():
    many, channel, orders = make(), FakeChannel(), Wanted()
    many._done = handling._Memory(2)
    orders.go_on.set()

    for tag in range(1, 6):
        many.take(deliver(orders, channel, tag, f"id-{tag}"))
        await turns()
    for tag in (1, 5):
        many.take(deliver(orders, channel, 10 + tag, f"id-{tag}", redelivered=True))
        await turns()

    assert orders.begun == ["id-1", "id-2", "id-3", "id-4", "id-5", "id-1"]


@scenario
async def test_what_has_not_begun_is_dropped_with_its_channel():
    many, lost, other, orders = make(1), FakeChannel(), FakeChannel(), Wanted()

    many.take(deliver(orders, lost, 1, "runs"))
    many.take(deliver(orders, lost, 2, "waits"))
    many.take(deliver(orders, other, 3, "waits elsewhere"))
    many.drop(lost)
    orders.go_on.set()
    await turns()

    assert orders.begun == ["runs", "waits elsewhere"]


@scenario
async def test_nothing_begins_after_the_stop_and_what_waits_goes_back():
    many, channel, orders = make(1), FakeChannel(), Wanted()

    many.take(deliver(orders, channel, 1, "runs"))
    many.take(deliver(orders, channel, 2, "waits"))
    many.stop()
    many.take(deliver(orders, channel, 3, "late"))
    many.give_back(orders)
    orders.go_on.set()
    await turns()

    assert orders.begun == ["runs"]
    assert channel.settled == [(2, "requeue"), (3, "requeue"), (1, "ack")]


@scenario
async def test_subscriber_that_has_stopped_holds_its_messages_until_it_is_cancelled():
    """Given back at once they would come again at once, until the broker has cancelled it."""
    many, channel, orders, others = make(1), FakeChannel(), Wanted(running=False), Wanted("others")

    many.take(deliver(orders, channel, 1, "held"))
    many.take(deliver(others, channel, 2, "other"))
    await turns()
    assert (orders.begun, others.begun, channel.settled) == ([], ["other"], [])
    many.give_back(orders)

    assert channel.settled == [(1, "requeue")]


def test_what_falls_through_goes_back_after_a_pause(monkeypatch):
    monkeypatch.setattr(handling, "REQUEUE_PAUSE", 0.0)

    @scenario
    async def test():
        many, channel, orders = make(1), FakeChannel(), Wanted()

        async def interrupt(message):
            raise KeyboardInterrupt

        orders.consume = interrupt
        many.take(deliver(orders, channel, 1))
        await turns()

        assert channel.settled == [(1, "requeue")]

    test()
