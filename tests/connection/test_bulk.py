import asyncio

import pytest

from faststream_django import Message
from faststream_django.connection.bulk import CHUNK_BYTES, CHUNK_MESSAGES, MOST_ERRORS, Bulk
from faststream_django.exceptions import (
    BrokerRefused,
    BrokerUnavailable,
    ConnectionLost,
    InvalidMessage,
    MessageRejected,
    MessageUnroutable,
    PublishError,
    PublishTimeout,
)


def item(body=b"x"):
    return Message.encode(body, "orders", max_bytes=CHUNK_BYTES)


def filled(count):
    bulk = Bulk("default")
    for _ in range(count):
        bulk.feed(item())
    return bulk


def indices(chunk):
    return [publication.index for publication in chunk.publications]


def settle_with(bulk, error):
    """Have the first message of what is left fail, and the others confirmed."""
    chunk = bulk.rest()
    for publication in chunk.publications:
        publication.confirmed = True
    chunk.errors[chunk.publications[0].index] = error
    bulk.settle(chunk)


def test_chunk_is_cut_at_its_number_of_messages():
    bulk = Bulk("default")

    chunks = [bulk.feed(item()) for _ in range(CHUNK_MESSAGES + 1)]

    assert chunks[: CHUNK_MESSAGES - 1] == [None] * (CHUNK_MESSAGES - 1)
    assert indices(chunks[CHUNK_MESSAGES - 1]) == list(range(CHUNK_MESSAGES))
    assert indices(bulk.rest()) == [CHUNK_MESSAGES]


def test_chunk_is_cut_at_its_bytes():
    bulk = Bulk("default")
    half = item(b"x" * (CHUNK_BYTES // 2))

    first, second = bulk.feed(half), bulk.feed(half)

    assert first is None
    assert indices(second) == [0, 1]
    assert bulk.rest() is None


def test_deliveries_know_their_broker():
    bulk = Bulk("events")
    bulk.feed(item())

    assert [publication.broker for publication in bulk.rest().publications] == ["events"]


def test_invalid_item_is_the_failure_of_its_index():
    bulk = Bulk("default")
    error = InvalidMessage("bad")

    bulk.feed(item())
    bulk.feed(error)
    bulk.feed(item())

    assert bulk.result.errors == {1: error}
    assert indices(bulk.rest()) == [0, 2]


def test_rest_is_taken_once():
    bulk = filled(1)

    assert bulk.rest() is not None
    assert bulk.rest() is None


def test_settled_chunk_adds_to_the_result():
    bulk = filled(3)

    settle_with(bulk, MessageUnroutable("lost"))

    assert bulk.result.confirmed == 2
    assert list(bulk.result.errors) == [0]


def test_unsettled_are_neither_confirmed_nor_failed():
    chunk = filled(3).rest()
    chunk.publications[0].confirmed = True
    chunk.errors[1] = MessageUnroutable("lost")

    assert [publication.index for publication in chunk.unsettled()] == [2]


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (BrokerUnavailable("x"), True),
        (BrokerRefused("x"), True),
        (ConnectionLost("x"), True),
        (PublishTimeout("x"), True),
        (MessageUnroutable("x"), False),
        (MessageRejected("x"), False),
        (InvalidMessage("x"), False),
        (PublishError("a middleware's"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bulk_is_broken_when_the_connection_fails(error, broken):
    bulk = filled(2)

    settle_with(bulk, error)

    assert bulk.is_broken is broken


def test_bulk_is_broken_when_nearly_everything_fails():
    bulk = Bulk("default")

    states = []
    for _ in range(MOST_ERRORS + 1):
        states.append(bulk.is_broken)
        bulk.feed(InvalidMessage("bad"))

    assert not any(states)
    assert bulk.is_broken


def test_bulk_is_broken_when_its_errors_hold_too_many_bytes(monkeypatch):
    monkeypatch.setattr("faststream_django.connection.bulk.MOST_ERROR_BYTES", 10)
    bulk = filled(2)

    settle_with(bulk, MessageUnroutable("x", message=item(b"x" * 11)))

    assert bulk.is_broken


def test_stopped_bulk_names_the_first_message_that_waited_for_its_chunk():
    bulk = filled(CHUNK_MESSAGES + 5)

    bulk.stop()

    assert bulk.result.stopped_at == CHUNK_MESSAGES
    assert bulk.rest() is None


def test_stopped_bulk_names_the_next_index_when_nothing_waited():
    bulk = filled(CHUNK_MESSAGES)

    bulk.stop()

    assert bulk.result.stopped_at == CHUNK_MESSAGES


def test_chunks_take_their_places_one_after_the_other():
    async def main():
        bulk = filled(CHUNK_MESSAGES - 1)
        first = bulk.feed(item())
        bulk.feed(item())
        second = bulk.rest()
        order = []

        async def begin(chunk, name):
            await chunk.in_turn()
            order.append(name)
            chunk.all_begun.set()

        await asyncio.wait_for(asyncio.gather(begin(second, "second"), begin(first, "first")), 10)
        return order

    assert asyncio.run(main()) == ["first", "second"]


def test_chunks_that_are_done_do_not_keep_those_before_them():
    """A bulk of millions of messages would end with all of them in memory."""

    async def main():
        bulk = filled(CHUNK_MESSAGES - 1)
        first = bulk.feed(item())
        bulk.feed(item())
        second = bulk.rest()
        first.all_begun.set()
        await second.in_turn()
        return second.previous

    assert asyncio.run(main()) is None


def test_open_chunk_is_taken_early_only_while_something_waits_in_it():
    bulk = filled(2)

    first = bulk.take_early()
    first.begun = 2

    assert indices(first) == [0, 1]
    assert bulk.take_early() is None
    bulk.feed(item())
    assert bulk.take_early() is first


def test_chunk_that_has_left_early_is_delivered_whole_although_the_bulk_stops():
    bulk = filled(2)
    bulk.take_early()

    bulk.stop()

    assert bulk.result.stopped_at == 2
    assert indices(bulk.rest()) == [0, 1]


def test_chunk_that_is_dropped_does_not_leave_early():
    bulk = filled(2)

    bulk.stop()

    assert bulk.result.stopped_at == 0
    assert bulk.rest() is None
    assert bulk.take_early() is None


def test_chunks_end_with_the_rest_although_the_iterable_raises():
    bulk = Bulk("default")
    taken = []

    def items():
        for _ in range(CHUNK_MESSAGES + 1):
            yield item()
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        for chunk in bulk.chunks(items()):
            taken.append(len(chunk.publications))  # noqa: PERF401 - each before the next is asked for

    assert taken == [CHUNK_MESSAGES, 1]


def test_abandoned_bulk_has_nothing_left():
    bulk = filled(CHUNK_MESSAGES + 2)
    bulk.take_early()

    bulk.abandon()

    assert not bulk.under_way
    assert bulk.rest() is None
