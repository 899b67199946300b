"""What the worker buried is handled again after a replay, on RabbitMQ and on the embedded broker."""

from decimal import Decimal

import pytest
from faststream import Path
from faststream.rabbit import ExchangeType, RabbitExchange, RabbitMessage, RabbitQueue, RabbitRouter

from faststream_django.conf.entries import broker_settings
from faststream_django.dead_letters import operating
from faststream_django.dead_letters.queues import declared_queues
from faststream_django.dead_letters.replaying import Replay
from tests.worker.conftest import site  # noqa: F401 - a fixture here, too
from tests.worker.sites import Calls, eventually

HEADERS = {
    "tenant": "acme",
    "raw": b"\xff\x00",
    "nested": {"list": [1, {"deep": None}], "flag": True},
    "price": Decimal("-1.50"),
    "big": 2**62,
}


def replay(queue, **options):
    settings = broker_settings("default")
    return operating.sweep(Replay(settings, queue, declared=declared_queues(settings), **options))


def test_letter_is_handled_as_if_for_the_first_time(site):  # noqa: F811
    site.configure(WORKER={"ATTEMPTS": 2, "BACKOFF": (0.05, 0.05)}, QUEUES=[site.name])
    router, calls = RabbitRouter(), Calls()
    exchange = f"{site.name}-events"

    @router.subscriber(
        RabbitQueue(site.name, routing_key="logs.{level}"),
        RabbitExchange(exchange, type=ExchangeType.TOPIC),
    )
    def handle(body: str, message: RabbitMessage, level: str = Path()) -> None:
        if calls((body, level, message.raw_message.message_id, message.headers)) < 4:
            raise OSError

    site.consume(router)
    site.publish(b"order", "logs.info", exchange, message_id="m-1", headers=HEADERS)
    calls.wait(2)
    eventually(lambda: not site.is_empty(site.dead_letters))

    outcome = replay(site.name)
    calls.wait(4)

    assert outcome.is_complete
    assert [each[:3] for each in calls.seen] == [("order", "info", "m-1")] * 4
    assert HEADERS.items() <= calls.seen[2][3].items()
    assert "faststream-attempts" not in calls.seen[2][3]
    assert site.is_empty(site.dead_letters)


@pytest.mark.parametrize("names", [("raw", "tenant"), ("price", "nested", "big")])
def test_headers_of_the_publisher_survive(site, names):  # noqa: F811
    site.configure(WORKER={"ATTEMPTS": 1}, QUEUES=[site.name, "other"])
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(site.name)
    def handle(body: str, message: RabbitMessage) -> None:
        if calls(message.headers) < 2:
            raise OSError

    site.consume(router)
    site.publish(b"order", message_id="m-1", headers={name: HEADERS[name] for name in names})
    eventually(lambda: not site.is_empty(site.dead_letters))

    assert replay(site.name).is_complete
    calls.wait(2)

    assert calls.seen[1] == {name: HEADERS[name] for name in names}
