import uuid

import pytest

from faststream_django.conf.entries import broker_settings
from faststream_django.worker.helper_queues import ConsumedQueue, dead_letter_queue
from tests.worker.conftest import make_app  # noqa: F401 - a fixture here, too

KINDS = ("classic", "quorum")


@pytest.fixture(params=KINDS)
def kind(request):
    """The type of the queues; a test may ask for one only."""
    return request.param


@pytest.fixture
def make_queue(rabbitmq, kind):
    """Declare a queue and one for its dead letters; return its name."""
    made = []

    def make(arguments=None, *, dead_letters=True):
        name = f"orders-{uuid.uuid4().hex[:8]}"
        rabbitmq.declare_queue(name, arguments={"x-queue-type": kind, **(arguments or {})})
        made.append(name)
        if dead_letters:
            helper = dead_letter_queue(ConsumedQueue(name, kind))
            rabbitmq.declare_queue(helper.name, arguments={"x-queue-type": helper.type, **helper.arguments})
            made.append(helper.name)
        return name

    yield make
    rabbitmq.recover()
    rabbitmq.delete_queue(*made)


@pytest.fixture
def queue(make_queue):
    return make_queue()


@pytest.fixture
def configure(settings, rabbitmq, kind):
    """Set FASTSTREAM, with these queues in QUEUES; return the settings of the broker."""

    def configure(*queues, **entry):
        settings.FASTSTREAM = {
            "default": {
                "URL": rabbitmq.url(),
                "QUEUES": {name: {"type": kind} for name in queues},
                **entry,
            }
        }
        return broker_settings("default")

    return configure


@pytest.fixture
def broker(configure, queue):
    """The settings of a broker whose QUEUES name the queue."""
    return configure(queue)
