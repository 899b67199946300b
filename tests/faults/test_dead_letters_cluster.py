"""Helper queues in a cluster that loses a node. Run by make soak."""

import contextlib

import pytest
from faststream.rabbit import RabbitMessage, RabbitQueue, RabbitRouter

from faststream_django import brokers
from tests.nodes import RabbitMQCluster, RabbitMQNode
from tests.worker.consumers import publish_many
from tests.worker.sites import Calls, Rabbit, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NEVER = {"ATTEMPTS": 1}
KEEP = {"x-overflow": "reject-publish"}


@pytest.fixture(scope="module")
def cluster():
    if not RabbitMQNode.is_installed():
        pytest.skip("RabbitMQ is not installed.")
    with contextlib.closing(RabbitMQCluster()) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def site(settings, cluster):
    site = Rabbit(settings, cluster.nodes[0])
    site.configure()
    yield site
    site.stop()
    brokers.stop()
    cluster.recover()


def test_classic_helper_on_a_dead_node_loses_nothing_and_others_go_on(site, cluster, caplog, monkeypatch):
    monkeypatch.setattr("faststream_django.worker.settling.GIVE_BACK_PAUSE", 1.0)
    _, other, _ = cluster.nodes
    site.configure(WORKER=NEVER)
    site.declare(site.name)
    other.declare_queue(site.dead_letters, arguments={"x-queue-type": "classic", **KEEP})
    router, bad, good = RabbitRouter(), Calls(), Calls()

    @router.subscriber(RabbitQueue(site.name, declare=False))
    def handle(body: str) -> None:
        if body.startswith("bad"):
            bad(body)
            raise OSError
        good(body)

    site.consume(router)
    other.kill()
    for number in range(3):
        site.publish(b"bad %d" % number)
    bad.wait(6)
    for number in range(50):
        site.publish(b"good %d" % number)
    good.wait(50)
    assert "goes back to its queue" in caplog.text

    cluster.recover()
    dead = site.wait_for(site.dead_letters, 3)

    assert sorted(each.body for each in dead) == [b"bad 0", b"bad 1", b"bad 2"]
    eventually(lambda: site.is_empty(site.name))


def test_quorum_queues_for_waits_lose_nothing_when_a_node_is_killed_as_they_expire(site, cluster):
    count = 500
    first, other, _ = cluster.nodes
    site.configure(
        URL=[other.url(), first.url()],  # so that the queues for waits begin on the other node
        QUEUES={site.name: {"type": "quorum"}},
        WORKER={"ATTEMPTS": 2, "BACKOFF": (4.0, 4.0)},
        TIMEOUT=10.0,
    )
    cluster.declare_queue(site.name)
    router, calls, second = RabbitRouter(), Calls(), Calls()

    @router.subscriber(RabbitQueue(site.name, declare=False))
    async def handle(body: str, message: RabbitMessage) -> None:
        calls(body)
        if "faststream-attempts" not in message.headers:
            raise OSError
        second(body)

    site.consume(router)
    publish_many(first, site.name, [f"order {number}" for number in range(count)])
    calls.wait(count)
    assert cluster.leader(f"{site.name}.retry.4000") is other
    second.wait(1)
    other.kill()
    wanted = {f"order {number}" for number in range(count)}
    eventually(lambda: wanted <= set(second.seen))

    print(f"{len(second.seen) - count} of {count} twice")
    assert site.is_empty(site.dead_letters)
