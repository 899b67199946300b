"""Which queues may have dead letters, and which of them this project declares."""

import pytest

from faststream_django.conf.entries import broker_settings
from faststream_django.conf.topology import QueueSettings
from faststream_django.dead_letters.queues import declared_queues, known_queues, source_queue

SUBSCRIBERS = """
from faststream.rabbit import QueueType, RabbitQueue, RabbitRouter
from faststream_django.worker import broker_router

router = RabbitRouter(prefix="shop-")
audit = broker_router("audit")

@router.subscriber("orders")
def handle(order): ...

@router.subscriber(RabbitQueue("mails", queue_type=QueueType.QUORUM, durable=True))
def mail(order): ...

@router.subscriber(RabbitQueue("theirs", declare=False))
def read(order): ...

@audit.subscriber("events")
def note(order): ...
"""


@pytest.fixture
def brokers(settings, make_app):
    def brokers(alias="default", **entry):
        settings.FASTSTREAM = {
            "default": {"URL": "amqp://nowhere/", "QUEUES": ["reports", "reports.dlq"], **entry},
            "audit": {"URL": "amqp://nowhere/"},
        }
        return broker_settings(alias)

    brokers()
    make_app(SUBSCRIBERS)
    return brokers


def test_queues_of_subscribers_and_of_the_settings_are_known(brokers):
    assert known_queues(brokers()) == ["reports", "shop-mails", "shop-orders", "shop-theirs"]
    assert known_queues(brokers("audit")) == ["events"]


def test_declarations_are_those_of_the_settings_and_of_subscribers(brokers):
    declared = declared_queues(brokers(QUEUES={"shop-orders": {"arguments": {"x-max-length": 5}}}))

    assert declared["shop-orders"] == QueueSettings(name="shop-orders", arguments={"x-max-length": 5})
    assert declared["shop-mails"].type == "quorum"
    assert "shop-theirs" not in declared


@pytest.mark.parametrize("declare", [False, "passive"])
def test_nothing_is_declared_where_the_settings_say_so(brokers, declare):
    assert declared_queues(brokers(DECLARE=declare)) == {}


def test_subscribers_that_cannot_be_imported_leave_the_settings(settings, make_app):
    settings.FASTSTREAM = {"default": {"URL": "amqp://nowhere/", "QUEUES": ["reports"]}}
    make_app("raise RuntimeError('broken')")

    assert list(declared_queues(broker_settings("default"))) == ["reports"]
    with pytest.raises(RuntimeError, match="broken"):
        known_queues(broker_settings("default"))


@pytest.mark.parametrize(
    ("name", "queue"), [("orders", "orders"), ("orders.dlq", "orders"), (".dlq", ".dlq")]
)
def test_dead_letters_may_be_named_too(name, queue):
    assert source_queue(name) == queue
