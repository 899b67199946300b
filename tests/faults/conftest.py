import uuid

import pytest

from faststream_django.registry import brokers

from .site import open_site


def pytest_configure(config):
    config.addinivalue_line("markers", "cluster: starts three RabbitMQ nodes; only with -m cluster")


def pytest_collection_modifyitems(config, items):
    if "cluster" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("cluster")]
    if left_out:
        items[:] = [item for item in items if not item.get_closest_marker("cluster")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def site(rabbitmq, request):
    """A connection through a proxy to a queue of the type that the test is parametrized with."""
    brokers.stop()  # what tests of the verbs left open would be counted
    queue_type = getattr(request, "param", "classic")
    with open_site(rabbitmq, f"faults-{uuid.uuid4().hex}", queue_type=queue_type) as site:
        yield site
