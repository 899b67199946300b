"""The verbs, on the embedded broker, and on RabbitMQ where only it can tell."""

import asyncio
import threading
import uuid
from datetime import timedelta

import pytest
from faststream import BaseMiddleware

from faststream_django import Message, brokers, publish, publish_on_commit
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.exceptions import InvalidMessage, MessageUnroutable, PublishTimeout
from tests.publishing.verbs import bodies

# What publish() does


def test_publish_returns_the_id_of_the_message_in_the_queue(server):
    message_id = publish({"number": 1}, "orders")

    [message] = server.drain("orders")
    assert message.message_id == message_id
    assert message.decode() == {"number": 1}


def test_given_message_id_is_kept(server):
    given = uuid.uuid4()

    message_id = publish("x", "orders", message_id=given)

    assert message_id == str(given)
    assert server.drain("orders")[0].message_id == str(given)


def test_each_message_has_an_id_of_its_own(server):
    assert publish("x", "orders") != publish("x", "orders")


def test_message_is_persistent_by_default(server):
    publish("x", "orders")
    publish("x", "orders", persist=False)

    assert [message.persist for message in server.drain("orders")] == [True, False]


def test_unroutable_message_is_an_error_by_default(server):
    with pytest.raises(MessageUnroutable) as raised:
        publish("x", "nowhere", message_id="lost")

    assert raised.value.message_id == "lost"
    assert raised.value.broker == "default"
    assert raised.value.maybe_sent is False
    assert "'nowhere'" in str(raised.value)


def test_unroutable_message_is_dropped_when_it_is_not_mandatory(server):
    publish("x", "nowhere", mandatory=False)


def test_properties_arrive_on_rabbitmq(rabbitmq, rabbit_queue):
    message_id = publish(
        {"number": 1},
        rabbit_queue,
        headers={"tenant": "blue"},
        correlation_id="order-1",
        reply_to="answers",
        priority=3,
        message_type="order.created",
        expiration=timedelta(hours=1),
    )

    [stored] = rabbitmq.drain(rabbit_queue)
    properties = stored.properties
    assert stored.body == b'{"number":1}'
    assert properties.message_id == message_id
    assert properties.correlation_id == "order-1"
    assert properties.content_type == "application/json"
    assert properties.headers == {"tenant": "blue"}
    assert properties.reply_to == "answers"
    assert properties.priority == 3
    assert properties.type == "order.created"
    assert properties.expiration == "3600000"
    assert properties.delivery_mode == 2


def test_exchange_and_routing_key_decide_where_it_goes(rabbitmq, rabbit_queue):
    rabbitmq.bind(rabbit_queue, "amq.topic", "order.*")

    publish("x", exchange="amq.topic", routing_key="order.created")

    [stored] = rabbitmq.drain(rabbit_queue)
    assert (stored.exchange, stored.routing_key) == ("amq.topic", "order.created")


def test_next_publish_works_after_each_refusal(rabbitmq, rabbit_queue):
    for options in ({"queue": "nowhere"}, {"exchange": "missing", "queue": "x"}):
        with pytest.raises(MessageUnroutable):
            publish("lost", **options)
        publish("fine", rabbit_queue)

    assert [stored.body for stored in rabbitmq.drain(rabbit_queue)] == [b"fine", b"fine"]


def test_payload_is_encoded_in_the_thread_of_the_caller(server):
    threads = []

    def numbers():
        threads.append(threading.current_thread())
        yield 1

    publish(numbers(), "orders")

    assert threads == [threading.current_thread()]


def test_message_can_be_the_payload(server):
    message = Message.encode({"number": 1}, "orders", headers={"tenant": "blue"})

    message_id = publish(message)

    [stored] = server.drain("orders")
    assert message_id == stored.message_id == message.message_id
    assert stored.headers == {"tenant": "blue"}


@pytest.mark.parametrize(
    "destination", [{"queue": "orders"}, {"exchange": "events"}, {"routing_key": "x"}, {"headers": None}]
)
@pytest.mark.parametrize("verb", [publish, publish_on_commit])
@pytest.mark.django_db
def test_message_has_its_destination_already(server, verb, destination):
    message = Message.encode("x", "orders")

    with pytest.raises(TypeError, match="has its destination"):
        verb(message, **destination)

    assert bodies(server) == []


def test_message_takes_broker_and_timeout(server):
    publish(Message.encode("x", "orders"), broker="default", timeout=2)

    assert bodies(server) == ["x"]


# Settings


def test_settings_take_effect_at_once(settings):
    first, second = (f"memory://{uuid.uuid4().hex}" for _ in range(2))

    for url in (first, second, first):
        settings.FASTSTREAM = {"default": {"URL": url, "QUEUES": ["orders"]}}
        publish(url, "orders")
    brokers.stop()

    assert bodies(MemoryServer.get(first)) == [first, first]
    assert bodies(MemoryServer.get(second)) == [second]


def test_timeout_of_the_broker_is_the_default(configure):
    class Hanging(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body == b"held":
                await asyncio.Event().wait()
            return await call_next(command)

    configure(Hanging, TIMEOUT=0.1)
    publish("connects", "orders", timeout=5)

    with pytest.raises(PublishTimeout, match=r"0\.1 s") as raised:
        publish("held", "orders")

    assert raised.value.maybe_sent is False


def test_body_over_the_limit_is_refused(configure):
    server = configure(MAX_MESSAGE_BYTES=10)

    with pytest.raises(InvalidMessage, match="MAX_MESSAGE_BYTES"):
        publish("x" * 11, "orders")
    publish("x" * 10, "orders")

    assert bodies(server) == ["x" * 10]
