"""A consumer on three nodes: the one it is connected to is lost, or the one where a queue lives."""

import contextlib
import time

import pika
import pytest
from faststream.rabbit import RabbitRouter

from tests.nodes import RabbitMQCluster
from tests.waiting import wait_until
from tests.worker.consumers import Handled, RunningConsumer, publish_many

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster():
    cluster = RabbitMQCluster()
    cluster.start()
    yield cluster
    cluster.close()


@pytest.fixture(autouse=True)
def _leave_it_running(cluster):
    yield
    cluster.recover()


@pytest.fixture
def handled():
    handled = Handled()
    yield handled
    handled.go_on.set()


def publish_during_election(node, queue, bodies):
    """Publish each as soon as the queue takes it: it refuses what comes until its next leader is known."""
    for body in bodies:
        while True:
            with contextlib.suppress(pika.exceptions.NackError):
                publish_many(node, queue, [body])
                break
            time.sleep(0.1)  # what another publisher would do


@pytest.mark.parametrize("lost", ["connected", "leader"])
def test_consumer_goes_on_within_three_seconds_of_a_lost_node(cluster, handled, lost):
    queue = cluster.declare_queue(f"consumed-{lost}")
    leader = cluster.leader(queue)
    others = [node for node in cluster.nodes if node is not leader]
    first = leader if lost == "leader" else others[0]
    urls = [first.url(), *(node.url() for node in cluster.nodes if node is not first)]
    router = RabbitRouter()

    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)
        handled.end(body)

    running = RunningConsumer([router], URL=urls, DECLARE=False).start()
    try:
        survivor = others[1]
        publish_many(survivor, queue, [str(number) for number in range(500)])
        first.kill()
        since = time.monotonic()
        running.wait_until_consuming()
        consuming = time.monotonic() - since
        publish_during_election(survivor, queue, [f"later-{number}" for number in range(100)])
        handled.wait_for(lambda each: len(each.done) == 600)
    finally:
        running.close()

    print(f"consuming={consuming:.3f}")
    assert consuming <= 3.0
    assert sum(handled.done.values()) - 600 <= 20


def test_queue_whose_node_is_away_does_not_stop_the_others(cluster, handled, caplog):
    """A classic queue lives on one node."""
    home, other, _ = cluster.nodes[::-1]
    home.declare_queue("at-home")
    other.declare_queue("elsewhere")
    router = RabbitRouter()

    @router.subscriber("at-home")
    def handle(body: str):
        handled.begin(body)

    @router.subscriber("elsewhere")
    def handle_other(body: str):
        handled.begin(body)

    running = RunningConsumer([router], URL=other.url()).start()
    try:
        home.kill()
        wait_until(lambda: "queues=at-home state=" in caplog.text)
        publish_many(other, "elsewhere", ["one"])
        handled.wait_for(lambda each: each.begun["one"])
        assert not running.consumer.is_consuming
        home.start()
        running.wait_until_consuming(60)
        publish_many(other, "at-home", ["two"])
        handled.wait_for(lambda each: each.begun["two"])
    finally:
        running.close()


def test_consumer_starts_while_the_node_of_a_queue_is_away(cluster, handled, caplog):
    home, other, _ = cluster.nodes[::-1]
    home.declare_queue("at-home")
    home.kill()
    router = RabbitRouter()

    @router.subscriber("at-home")
    def handle(body: str):
        handled.begin(body)

    running = RunningConsumer([router], URL=other.url())
    try:
        starting = running.begin_to_start()
        wait_until(lambda: "queues=at-home state=waiting" in caplog.text)
        home.start()
        starting.result(60)
    finally:
        running.close()
