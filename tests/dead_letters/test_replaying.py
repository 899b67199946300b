"""Replay on RabbitMQ: nothing is lost, and nothing is there twice."""

import threading

import pytest

from faststream_django.dead_letters import operating
from faststream_django.dead_letters.letters import Letter
from faststream_django.dead_letters.queues import declared_queues
from faststream_django.dead_letters.replaying import Replay
from tests.dead_letters.buried import bury, ids_in
from tests.waiting import wait_until

FULL = {"x-max-length": 30, "x-overflow": "reject-publish"}
only_classic = pytest.mark.parametrize("kind", ["classic"], indirect=True)
only_quorum = pytest.mark.parametrize("kind", ["quorum"], indirect=True)


@pytest.fixture
def replay(broker):
    def replay(queue, **options):
        return operating.sweep(Replay(broker, queue, declared=declared_queues(broker), **options))

    return replay


def names(*numbers):
    return [f"m-{number}" for number in numbers]


def left(node, queue, count=0):
    return ids_in(node, f"{queue}.dlq", count)


def test_letters_go_back_to_their_queue_in_their_order(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 100)

    outcome = replay(queue)

    assert (outcome.count, outcome.done, outcome.is_complete) == (100, 100, True)
    arrived = rabbitmq.drain(queue)
    assert [each.properties.message_id for each in arrived] == names(*range(100))
    assert [each.body for each in arrived] == [b'{"number": %d}' % number for number in range(100)]
    assert left(rabbitmq, queue) == []


def test_letters_arrive_as_they_were_published(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 2)

    replay(queue)

    for arrived in rabbitmq.drain(queue):
        assert {name: value for name, value in arrived.headers.items() if name != "x-delivery-count"} == {
            "tenant": "acme"
        }
        assert arrived.properties.content_type == "application/json"
        assert arrived.properties.delivery_mode == 2
        assert arrived.exchange == ""


def test_what_comes_while_it_runs_is_not_taken(rabbitmq, broker, queue):
    """Or a handler that fails at once would keep it busy for ever."""
    bury(rabbitmq, queue, 3)

    class Failing(Replay):
        async def _treat(self, *args):
            bury(rabbitmq, queue, 1, first=100 + self.outcome.done)
            return await super()._treat(*args)

    outcome = operating.sweep(Failing(broker, queue))

    assert outcome.done == 3
    assert left(rabbitmq, queue, 3) == names(100, 101, 102)


def test_limit_bounds_it(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 5)

    outcome = replay(queue, limit=2)

    assert (outcome.done, outcome.is_complete) == (2, True)
    assert ids_in(rabbitmq, queue) == names(0, 1)
    assert left(rabbitmq, queue, 3) == names(2, 3, 4)


def test_ids_choose_and_the_others_stay(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 6)
    bury(rabbitmq, queue, 1, first=3)

    outcome = replay(queue, ids=["m-3", "m-1", "m-99"])

    assert (outcome.done, outcome.missing) == (2, ["m-99"])
    assert ids_in(rabbitmq, queue) == names(1, 3)
    assert sorted(left(rabbitmq, queue, 5)) == names(0, 2, 3, 4, 5)


def test_other_queue_can_be_named(rabbitmq, replay, queue, make_queue):
    other = make_queue()
    bury(rabbitmq, queue, 2)

    assert replay(queue, to=other).is_complete

    assert ids_in(rabbitmq, other) == names(0, 1)
    assert rabbitmq.count(queue) == 0


def test_missing_target_changes_nothing(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 3)
    rabbitmq.delete_queue(queue)

    outcome = replay(queue)

    assert (outcome.done, outcome.is_complete) == (0, False)
    assert outcome.problem == f"there is no queue {queue!r} to replay to"
    assert left(rabbitmq, queue, 3) == names(0, 1, 2)


def test_full_target_takes_what_it_can_and_nothing_is_lost_or_twice(rabbitmq, configure, make_queue):
    queue = make_queue(FULL)
    settings = configure(DECLARE=False)
    bury(rabbitmq, queue, 100)

    outcome = operating.sweep(Replay(settings, queue, declared=declared_queues(settings)))

    assert "is full" in outcome.problem
    arrived, kept = ids_in(rabbitmq, queue), left(rabbitmq, queue, 100 - outcome.done)
    assert len(arrived) == outcome.done >= 30
    assert sorted(arrived + kept) == sorted(names(*range(100)))


def test_target_that_is_full_by_a_policy_is_told_of_by_the_transaction(rabbitmq, replay, queue):
    """The arguments of the queue are those of the settings, so that replay moves by transactions."""
    bury(rabbitmq, queue, 100)
    definition = '{"max-length": 30, "overflow": "reject-publish"}'
    rabbitmq.ctl("set_policy", "full", f"^{queue}$", definition)
    try:
        outcome = replay(queue)
    finally:
        rabbitmq.ctl("clear_policy", "full")

    assert "is full" in outcome.problem
    assert outcome.done >= 30
    arrived, kept = ids_in(rabbitmq, queue), left(rabbitmq, queue, 100 - outcome.done)
    assert len(arrived) == outcome.done
    assert sorted(arrived + kept) == sorted(names(*range(100)))
    assert (outcome.lost, outcome.uncertain) == ([], [])


def test_target_that_vanishes_meanwhile_loses_nothing(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 10)

    class Vanishing(Replay):
        async def _treat(self, *args):
            done = await super()._treat(*args)
            if self.outcome.done == 4:
                rabbitmq.delete_queue(queue)
            return done

    outcome = operating.sweep(Vanishing(broker, queue, declared=declared_queues(broker)))

    assert outcome.done == 4
    assert "is gone" in outcome.problem or "or gone" in outcome.problem
    assert sorted(left(rabbitmq, queue, 6)) == names(*range(4, 10))


@only_classic
def test_target_that_does_not_answer_is_given_up_and_nothing_is_lost(
    rabbitmq, configure, make_queue, monkeypatch
):
    monkeypatch.setattr("faststream_django.backends.rabbit.operating.COMMIT_TIMEOUT", 1.0)
    queue = make_queue()
    settings = configure(queue, TIMEOUT=1.0)
    bury(rabbitmq, queue, 5)

    class Stalling(Replay):
        async def _treat(self, *args):
            if self.outcome.done != 2:
                return await super()._treat(*args)
            with rabbitmq.suspended(queue):
                return await super()._treat(*args)

    outcome = operating.sweep(Stalling(settings, queue, declared=declared_queues(settings)))

    assert outcome.done == 2
    assert outcome.uncertain == ["m-2"]
    assert "did not answer" in outcome.problem
    arrived, kept = ids_in(rabbitmq, queue), left(rabbitmq, queue, 3)
    assert {*arrived, *kept} == {*names(*range(5))}
    assert sorted(kept) == names(2, 3, 4)


def test_letter_without_origin_stays_and_is_told(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 1, **{"faststream-queue": ["no", "name"]})
    bury(rabbitmq, queue, 1, first=1)

    outcome = replay(queue)

    assert (outcome.done, outcome.left_alone) == (1, 1)
    assert outcome.reasons == [
        ("m-0", "nothing in its headers names the queue that it comes from: pass --to")
    ]
    assert ids_in(rabbitmq, queue) == ["m-1"]
    wait_until(lambda: rabbitmq.count(f"{queue}.dlq") == 1)
    assert replay(queue, to=queue).is_complete
    assert ids_in(rabbitmq, queue) == ["m-0"]


def test_letters_that_would_go_round_in_a_circle_stay(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 1)

    outcome = replay(queue, to=f"{queue}.dlq")

    assert "itself" in outcome.problem
    assert left(rabbitmq, queue, 1) == ["m-0"]


def test_second_run_finds_nothing_to_do(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 20)

    assert replay(queue).done == 20
    assert replay(queue).done == 0

    assert len(ids_in(rabbitmq, queue)) == 20


def test_stopping_finishes_what_is_under_way(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 50)
    started = threading.Event()

    class Watched(Replay):
        async def _treat(self, *args):
            done = await super()._treat(*args)
            if self.outcome.done == 10:
                started.set()
                self.stop()
            return done

    outcome = operating.sweep(Watched(broker, queue, declared=declared_queues(broker)))

    assert (outcome.done, outcome.is_stopped, outcome.is_complete) == (10, True, False)
    assert sorted(ids_in(rabbitmq, queue) + left(rabbitmq, queue, 40)) == sorted(names(*range(50)))


def test_time_that_is_over_stops_it_too(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 5)

    outcome = replay(queue, timeout=0.0)

    assert (outcome.done, outcome.is_stopped) == (0, True)
    assert left(rabbitmq, queue, 5) == names(*range(5))


@only_quorum
def test_many_are_really_gone_from_a_quorum_queue(rabbitmq, replay, queue):
    bury(rabbitmq, queue, 300)

    assert replay(queue).done == 300

    assert left(rabbitmq, queue) == []


@only_classic
def test_settings_that_are_wrong_about_a_queue_cost_no_letter(rabbitmq, configure, make_queue):
    """It is a quorum queue, of which a transaction does not tell that it is full."""
    queue = make_queue()
    rabbitmq.delete_queue(queue)
    rabbitmq.declare_queue(queue, arguments={"x-queue-type": "quorum", **FULL})
    settings = configure(queue)
    bury(rabbitmq, queue, 100)

    outcome = operating.sweep(Replay(settings, queue, declared=declared_queues(settings)))

    assert "is full" in outcome.problem
    kept = left(rabbitmq, queue, 100 - outcome.done)
    assert sorted(ids_in(rabbitmq, queue) + kept) == sorted(names(*range(100)))


@only_classic
@pytest.mark.parametrize("first", [0, 1])
def test_letter_that_cannot_be_written_stays_and_is_told(rabbitmq, replay, queue, monkeypatch, first):
    """As the first one, which is published, and as another one, which is moved by a transaction."""
    fresh = Letter.fresh_properties

    def unwritable(letter, target):
        properties = fresh(letter, target)
        if letter.id == f"m-{first}":
            properties.headers = {"value": object()}
        return properties

    monkeypatch.setattr(Letter, "fresh_properties", unwritable)
    bury(rabbitmq, queue, 3)

    outcome = replay(queue)

    assert (outcome.done, outcome.left_alone) == (2, 1)
    assert outcome.reasons[0][0] == f"m-{first}"
    assert "cannot be written again" in outcome.reasons[0][1]
    assert left(rabbitmq, queue, 1) == [f"m-{first}"]
    assert len(ids_in(rabbitmq, queue)) == 2


@only_classic
def test_message_that_the_driver_cannot_read_stays_and_is_told(rabbitmq, replay, queue):
    """Its id is no UTF-8."""
    bury(rabbitmq, queue, 2)
    rabbitmq.publish(b"x", f"{queue}.dlq", message_id=b"\xff\xfe")

    outcome = replay(queue)

    assert outcome.done == 2
    assert "take it out with another tool" in outcome.problem
    wait_until(lambda: rabbitmq.count(f"{queue}.dlq") == 1)


@only_classic
def test_broker_that_takes_no_messages_loses_none(rabbitmq, configure, make_queue):
    queue = make_queue()
    settings = configure(queue, TIMEOUT=1.0)
    bury(rabbitmq, queue, 3)

    with rabbitmq.memory_alarm():
        outcome = operating.sweep(Replay(settings, queue, declared=declared_queues(settings)))

    assert (outcome.done, outcome.uncertain) == (0, ["m-0"])
    assert "did not answer" in outcome.problem
    assert left(rabbitmq, queue, 3) == names(0, 1, 2)
