"""Discard on RabbitMQ: what is meant, and nothing else."""

import datetime as dt

import pytest

from faststream_django.dead_letters import operating
from faststream_django.dead_letters.discarding import Discard
from tests.dead_letters.buried import bury, ids_in


@pytest.fixture
def discard(broker):
    def discard(queue, **options):
        return operating.sweep(Discard(broker, queue, **options))

    return discard


def names(*numbers):
    return [f"m-{number}" for number in numbers]


def left(node, queue, count=0):
    return sorted(ids_in(node, f"{queue}.dlq", count))


def ago(**length):
    return dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(**length)


def test_all_are_those_that_were_there(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 110)

    class Watched(Discard):
        async def _treat(self, *args):
            if args[-1].id == "m-0":
                bury(rabbitmq, queue, 1, first=500)
            return await super()._treat(*args)

    outcome = operating.sweep(Watched(broker, queue))

    assert (outcome.count, outcome.done, outcome.is_complete) == (110, 110, True)
    assert left(rabbitmq, queue, 1) == ["m-500"]


def test_ids_choose(rabbitmq, discard, queue):
    bury(rabbitmq, queue, 5)

    outcome = discard(queue, ids=["m-1", "m-3", "m-9"])

    assert (outcome.done, outcome.missing, outcome.is_complete) == (2, ["m-9"], False)
    assert left(rabbitmq, queue, 3) == names(0, 2, 4)


def test_age_chooses(rabbitmq, discard, queue):
    bury(rabbitmq, queue, 2, **{"faststream-failed-at": ago(hours=2)})
    bury(rabbitmq, queue, 2, first=2)
    bury(rabbitmq, queue, 1, first=4, **{"faststream-failed-at": "yesterday"})

    outcome = discard(queue, older_than=3600.0)

    assert (outcome.done, outcome.left_alone) == (2, 1)
    assert outcome.reasons == [("m-4", "nothing in its headers says when it failed: name its id")]
    assert left(rabbitmq, queue, 3) == names(2, 3, 4)


def test_limit_bounds_it(rabbitmq, discard, queue):
    bury(rabbitmq, queue, 5)

    assert discard(queue, limit=2).done == 2

    assert left(rabbitmq, queue, 3) == names(2, 3, 4)


def test_stopping_finishes_what_was_decided(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 10)

    class Watched(Discard):
        async def _treat(self, *args):
            if args[-1].id == "m-3":
                self.stop()
            return await super()._treat(*args)

    outcome = operating.sweep(Watched(broker, queue))

    assert (outcome.done, outcome.is_stopped) == (4, True)
    assert left(rabbitmq, queue, 6) == names(*range(4, 10))


def test_many_are_really_gone(rabbitmq, discard, queue):
    bury(rabbitmq, queue, 500)

    assert discard(queue).done == 500

    assert left(rabbitmq, queue) == []
