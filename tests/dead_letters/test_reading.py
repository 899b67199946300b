"""Looking at dead letters: they stay where they are."""

import pytest

from faststream_django.backends.operating import OperationRefused
from faststream_django.dead_letters import operating
from tests.dead_letters.buried import bury, ids_in
from tests.waiting import wait_until

only_classic = pytest.mark.parametrize("kind", ["classic"], indirect=True)


def names(*numbers):
    return [f"m-{number}" for number in numbers]


def test_queues_are_counted_if_they_have_a_place_for_dead_letters(rabbitmq, broker, queue, make_queue):
    other, without = make_queue(), make_queue(dead_letters=False)
    bury(rabbitmq, queue, 3)

    assert operating.counts(broker, [queue, without, other]) == {queue: 3, other: 0}


def test_look_shows_the_first_and_counts_all(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 5)

    shelf = operating.peek(broker, queue, 2)

    assert (shelf.queue, shelf.count) == (queue, 5)
    assert [letter.id for letter in shelf.letters] == names(0, 1)
    assert sorted(ids_in(rabbitmq, f"{queue}.dlq", 5)) == names(*range(5))


@only_classic
def test_look_leaves_the_order_of_a_classic_queue(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 5)

    operating.peek(broker, queue, 3)
    operating.find(broker, [queue], "m-3")

    assert ids_in(rabbitmq, f"{queue}.dlq", 5) == names(*range(5))


def test_looking_again_and_again_costs_no_letter(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 3)

    for _ in range(25):
        wait_until(lambda: len(operating.peek(broker, queue, 3).letters) == 3)

    assert sorted(ids_in(rabbitmq, f"{queue}.dlq", 3)) == names(0, 1, 2)


def test_look_at_nothing_needs_no_channel(rabbitmq, broker, queue):
    assert operating.peek(broker, queue, 0).letters == ()
    assert operating.peek(broker, queue, 5).letters == ()


def test_queue_without_a_place_for_dead_letters_is_told(broker):
    with pytest.raises(OperationRefused, match=r"no queue 'unknown\.dlq'"):
        operating.peek(broker, "unknown", 5)


def test_letter_is_found_in_any_of_the_queues(rabbitmq, broker, queue, make_queue):
    other = make_queue()
    bury(rabbitmq, other, 3)

    found = operating.find(broker, [queue, "unknown", other], "m-2")

    assert (found.id, found.queue, found.message.body) == ("m-2", other, b'{"number": 2}')
    wait_until(lambda: rabbitmq.count(f"{other}.dlq") == 3)
    assert operating.find(broker, [queue, other], "m-7") is None


def test_search_may_be_bounded(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 5)

    assert operating.find(broker, [queue], "m-4", 2) is None
    wait_until(lambda: rabbitmq.count(f"{queue}.dlq") == 5)


@only_classic
def test_name_that_amqp_cannot_carry_is_told(broker):
    with pytest.raises(OperationRefused, match="queue"):
        operating.peek(broker, "x" * 300, 5)
