"""Three nodes, a quorum queue, and one address that leads to a node that lives. Run by make soak."""

import contextlib

import pytest

from tests.nodes import RabbitMQCluster, RabbitMQNode

from .failover import CASES, fail_over
from .site import BUSY, TIMEOUT, TOLERANCE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster():
    if not RabbitMQNode.is_installed():
        pytest.skip("RabbitMQ is not installed.")
    with contextlib.closing(RabbitMQCluster()) as cluster:
        cluster.start()
        yield cluster


@pytest.mark.parametrize("case", CASES)
def test_node_of_a_cluster_may_be_lost(cluster, case):
    account, recovery = fail_over(cluster, case)

    print(f"{account} recovery={recovery:.3f}")
    assert account.violations == {}
    assert account.longest <= TIMEOUT + TOLERANCE + BUSY
    assert recovery <= 3.0
