"""With an aiormq that has no place for the wire, deliveries come and acknowledgements go through it."""

import pytest
from faststream import AckPolicy
from faststream.rabbit import RabbitRouter

from tests.waiting import wait_until
from tests.worker.consumers import publish_many


@pytest.fixture(autouse=True)
def no_wire(monkeypatch):
    monkeypatch.setattr("faststream_django.backends.rabbit.dialing.make_wire", lambda: None)


@pytest.fixture
def router():
    return RabbitRouter()


def test_messages_are_handled_and_settled(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue, ack_policy=AckPolicy.NACK_ON_ERROR)
    async def handle(body: str):
        handled.begin(body)
        if handled.begun[body] == 1:
            raise ValueError
        handled.end(body)

    running = consume(router, URL=rabbitmq.url())
    bodies = ["one", "two" * 100_000]
    publish_many(rabbitmq, queue, bodies, message_id="x")
    handled.wait_for(lambda each: len(each.done) == 2)

    assert running.finish()
    assert rabbitmq.count(queue) == 0
    assert handled.begun == dict.fromkeys(bodies, 2)


def test_loss_and_deletion_are_overcome(consume, rabbitmq, router, queue, handled, caplog):
    @router.subscriber(queue)
    def handle(body: str):
        handled.hold(body)

    running = consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 1, "PREFETCH": 2})
    publish_many(rabbitmq, queue, ["one", "two", "three"])
    handled.wait_for(lambda each: each.begun)
    running.lose_connection(rabbitmq)
    handled.go_on.set()
    handled.wait_for(lambda each: len(each.done) == 3)
    wait_until(lambda: rabbitmq.count(queue) == 0)
    rabbitmq.delete_queue(queue)
    wait_until(lambda: "state=interrupted" in caplog.text)
    running.wait_until_consuming()
    publish_many(rabbitmq, queue, ["four"])
    handled.wait_for(lambda each: each.done["four"])

    assert running.finish()
    assert handled.begun == dict.fromkeys(["one", "two", "three", "four"], 1)
