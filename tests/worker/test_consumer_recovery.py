"""A consumer outlives what happens to its connection, its channels, its queues and its broker."""

import logging
import time

import pytest
from faststream.rabbit import RabbitRouter

from faststream_django.connection import supervisor
from tests.nodes import FaultProxy, RabbitMQNode
from tests.waiting import wait_until
from tests.worker.consumers import ignore, publish_many, rows


@pytest.fixture
def router():
    return RabbitRouter()


@pytest.fixture
def second_node():
    """A node that knows nothing of the first one."""
    node = RabbitMQNode()
    node.start()
    yield node
    node.close()


def warnings_in(caplog):
    """Return what a team would see of the worker and of the drivers, at WARNING and above."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


# The connection


def test_forced_close_is_one_line_and_the_return_another(consume, rabbitmq, router, queue, handled, caplog):
    caplog.set_level(logging.INFO)

    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)

    running = consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["one"])
    handled.wait_for(lambda each: each.begun)
    caplog.clear()
    rabbitmq.close_all_connections()
    publish_many(rabbitmq, queue, ["two"])
    handled.wait_for(lambda each: each.begun["two"])
    running.wait_until_consuming()

    [lost] = warnings_in(caplog)
    assert "broker=default state=disconnected" in lost.getMessage()
    assert [record.name for record in caplog.records].count("faststream_django.worker") == 2
    assert "state=connected" in caplog.text


def test_handlers_that_run_during_a_loss_run_once(consume, rabbitmq, router, queue, handled):
    """The broker delivers them again: to the task that runs, not to another one."""

    @router.subscriber(queue)
    def handle(body: str):
        handled.hold(body)

    running = consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 5, "PREFETCH": 10})
    bodies = [str(number) for number in range(10)]
    publish_many(rabbitmq, queue, bodies)
    handled.wait_for(lambda each: len(each.begun) == 5)
    for _ in range(3):
        running.lose_connection(rabbitmq)
        wait_until(lambda: rabbitmq.count(queue) == 0)
    handled.go_on.set()
    handled.wait_for(lambda each: len(each.done) == 10)

    assert running.finish()
    assert handled.begun == dict.fromkeys(bodies, 1)
    assert handled.most_at_once == 5
    assert rabbitmq.count(queue) == 0


def test_what_ends_while_there_is_no_connection_is_acknowledged_on_the_next_one(
    consume, rabbitmq, router, queue, handled
):
    @router.subscriber(queue)
    async def handle(body: str):
        await handled.ahold(body)

    running = consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["one", "two"])
    handled.wait_for(lambda each: len(each.begun) == 2)
    rabbitmq.stop()
    wait_until(lambda: not running.consumer.is_consuming)
    handled.go_on.set()
    handled.wait_for(lambda each: len(each.done) == 2)
    rabbitmq.start()
    running.wait_until_consuming()

    wait_until(lambda: rabbitmq.count(queue) == 0)
    assert running.finish()
    assert handled.begun == {"one": 1, "two": 1}
    assert rabbitmq.count(queue) == 0


def test_equal_messages_without_an_id_are_told_apart(consume, rabbitmq, router, queue, handled):
    """Nothing tells which of two equal messages was handled, so that one that comes again is."""

    @router.subscriber(queue)
    def handle(body: str):
        handled.hold(body)

    running = consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 1, "PREFETCH": 10})
    publish_many(rabbitmq, queue, ["same", "same"], message_id=None)
    handled.wait_for(lambda each: each.begun)
    running.lose_connection(rabbitmq)
    wait_until(lambda: rabbitmq.count(queue) == 0)
    handled.go_on.set()

    handled.wait_for(lambda each: each.done["same"] == 3)


def test_message_that_comes_back_for_another_attempt_is_no_copy(consume, rabbitmq, router, queue, handled):
    """It has the id and the body of the one that was handled, and other headers."""

    @router.subscriber(queue)
    def handle(body: str):
        handled.hold(body)

    running = consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 1})
    handled.go_on.set()
    publish_many(rabbitmq, queue, ["one"])
    handled.wait_for(lambda each: each.done["one"] == 1)
    handled.go_on.clear()
    publish_many(rabbitmq, queue, ["other"])
    handled.wait_for(lambda each: each.begun["other"] == 1)
    publish_many(rabbitmq, queue, ["one"], headers={"faststream-attempts": 1})
    running.lose_connection(rabbitmq)
    handled.go_on.set()

    handled.wait_for(lambda each: each.done["one"] == 2)


def test_restart_of_the_broker_is_over_within_a_second(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)

    running = consume(router, URL=rabbitmq.url())
    rabbitmq.stop()
    wait_until(lambda: not running.consumer.is_consuming)
    rabbitmq.start()
    running.wait_until_consuming()

    assert time.monotonic() - rabbitmq.answers_since <= 1.0
    publish_many(rabbitmq, queue, ["one"])
    handled.wait_for(lambda each: each.begun)


def test_broker_is_asked_all_the_time_it_is_away(consume, rabbitmq, router, queue, monkeypatch):
    """The pauses do not grow as long as where nobody waits for the connection."""
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 5.0)
    proxy = FaultProxy(rabbitmq.port)
    ignore(router, queue)
    running = consume(router, URL=proxy.url)
    proxy.refuse()
    proxy.reset()
    wait_until(lambda: not running.consumer.is_consuming)
    proxy.listen()
    since = time.monotonic()
    running.wait_until_consuming()
    proxy.close()

    assert time.monotonic() - since <= 1.0


def test_other_node_of_the_list_takes_over_from_one_that_dies(
    consume, rabbitmq, second_node, router, queue, handled
):
    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)

    running = consume(router, URL=[rabbitmq.url(), second_node.url()])
    second_node.declare_queue(queue)
    publish_many(second_node, queue, ["one"])
    rabbitmq.kill()
    since = time.monotonic()
    handled.wait_for(lambda each: each.begun["one"])

    assert time.monotonic() - since <= 3.0
    assert running.consumer.is_consuming


def test_consumer_waits_for_a_broker_that_is_away(consume, rabbitmq, router, queue, handled):
    ignore(router, queue)
    rabbitmq.stop()

    running = consume(router, wait=False, URL=rabbitmq.url())
    starting = running.begin_to_start()
    rabbitmq.start()

    starting.result(20)
    assert running.consumer.is_consuming


# Queues and channels


@pytest.mark.parametrize("options", [{}, {"type": "quorum"}])
def test_queue_that_is_deleted_is_declared_and_consumed_again(
    consume, rabbitmq, router, queue, handled, caplog, options
):
    caplog.set_level(logging.INFO)

    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)

    running = consume(router, URL=rabbitmq.url(), QUEUES={queue: options})
    rabbitmq.delete_queue(queue)
    wait_until(lambda: f"queues={queue} state=consuming" in caplog.text)
    publish_many(rabbitmq, queue, ["one"])
    handled.wait_for(lambda each: each.begun)

    [told] = warnings_in(caplog)
    assert f"queues={queue} state=interrupted" in told.getMessage()
    assert running.consumer.is_consuming


def test_queue_of_others_that_is_deleted_is_told_and_consumed_when_it_is_back(
    consume, rabbitmq, router, queue, handled, caplog
):
    rabbitmq.declare_queue(queue)

    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)

    running = consume(router, URL=rabbitmq.url(), DECLARE=False)
    rabbitmq.delete_queue(queue)
    wait_until(lambda: "cannot be consumed: NOT_FOUND" in caplog.text)
    assert not running.consumer.is_consuming
    rabbitmq.declare_queue(queue)
    running.wait_until_consuming()
    publish_many(rabbitmq, queue, ["one"])

    handled.wait_for(lambda each: each.begun)


def test_subscribers_of_other_queues_notice_nothing_of_a_deleted_one(
    consume, rabbitmq, router, queue, handled
):
    ignore(router, "deleted")

    @router.subscriber(queue)
    def handle(body: str):
        handled.hold(body)

    running = consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["one"])
    handled.wait_for(lambda each: each.begun)
    rabbitmq.delete_queue("deleted")
    wait_until(lambda: len(rows(rabbitmq, "consumers", "queue_name")) == 2)
    handled.go_on.set()
    handled.wait_for(lambda each: each.done)

    assert running.finish()
    assert handled.begun == {"one": 1}
    rabbitmq.delete_queue("deleted")


@pytest.fixture
def impatient_node(rabbitmq):
    """A node that gives a consumer a second to acknowledge."""
    for name, value in (("consumer_timeout", 1000), ("channel_tick_interval", 300)):
        rabbitmq.ctl("eval", f"application:set_env(rabbit, {name}, {value}).")
    yield rabbitmq
    for name, value in (("consumer_timeout", 1_800_000), ("channel_tick_interval", 60_000)):
        rabbitmq.ctl("eval", f"application:set_env(rabbit, {name}, {value}).")


def test_handler_that_is_too_long_for_the_broker_is_told_and_runs_once(
    consume, impatient_node, router, queue, handled, caplog
):
    other = f"{queue}-other"

    @router.subscriber(queue)
    def handle(body: str):
        handled.hold(body)

    @router.subscriber(other)
    def handle_other(body: str):
        handled.hold(body)

    running = consume(router, URL=impatient_node.url())
    publish_many(impatient_node, queue, ["long"])
    wait_until(lambda: "consumer_timeout" in caplog.text)
    handled.go_on.set()
    handled.wait_for(lambda each: each.done)
    running.wait_until_consuming()

    wait_until(lambda: impatient_node.count(queue) == 0)
    assert running.finish()
    assert impatient_node.count(queue) == 0
    assert handled.begun == {"long": 1}
    assert f"queues={queue} state=interrupted" in caplog.text
    assert f"queues={other}" not in caplog.text
    assert "raise consumer_timeout in rabbitmq.conf" in caplog.text
    impatient_node.delete_queue(other)
