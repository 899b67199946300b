import pytest
from django.db import connection, transaction

import faststream_django.backends.rabbit  # noqa: F401 - takes longer than the timeouts below
from faststream_django import brokers, publish_on_commit
from faststream_django.exceptions import InvalidMessage
from faststream_django.signals import message_published
from tests.test_app.models import Order

# A transaction that really commits and rolls back: the tests may not run inside one themselves.
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


@pytest.fixture(params=["memory", "outbox"])
def on_commit(request):
    return request.param


in_memory = pytest.mark.parametrize("on_commit", ["memory"])


def say(body, **options):
    return publish_on_commit(body, "orders", **options)


def test_messages_keep_the_order_of_the_calls_among_other_callbacks(recorder):
    order = []

    def receive(sender, message, **kwargs):
        order.append(message.decode())

    message_published.connect(receive)
    with transaction.atomic():
        say("1")
        transaction.on_commit(lambda: order.append("callback"))
        say("2")
        say("3")
        transaction.on_commit(lambda: order.append("last callback"))
    message_published.disconnect(receive)

    assert order == ["1", "callback", "2", "3", "last callback"]
    assert len(recorder.sends) == 2


def test_hundred_messages_of_a_transaction_are_one_send(recorder):
    with transaction.atomic():
        for number in range(100):
            say(number)

    assert len(recorder.sends) == 1
    assert recorder.bodies == list(range(100))


def test_hundred_messages_of_a_savepoint_are_one_send(recorder):
    with transaction.atomic(), transaction.atomic():
        for number in range(100):
            say(number)

    assert len(recorder.sends) == 1
    assert recorder.bodies == list(range(100))


def test_messages_with_another_fate_are_not_merged(recorder):
    with transaction.atomic():
        say("outer")
        with transaction.atomic():
            say("inner")
        callbacks = len(connection.run_on_commit)

    assert callbacks == 2
    assert recorder.bodies == ["outer", "inner"]


def test_robust_and_fragile_messages_keep_their_order(recorder):
    with transaction.atomic():
        say("1")
        say("2", robust=False)
        say("3")

    assert recorder.bodies == ["1", "2", "3"]


def test_messages_for_several_brokers_travel_in_one_send_each(recorder):
    with transaction.atomic():
        for number in range(3):
            say(f"order {number}")
            say(f"event {number}", broker="events")

    assert [(send.broker, send.bodies) for send in recorder.sends] == [
        ("default", ["order 0", "order 1", "order 2"]),
        ("events", ["event 0", "event 1", "event 2"]),
    ]


@in_memory
def test_timeout_of_the_call_is_that_of_the_delivery(recorder):
    with transaction.atomic():
        say("quick", timeout=0.5)

    assert [send.timeout for send in recorder.sends] == [0.5]


def test_shortest_of_several_timeouts_counts(recorder):
    with transaction.atomic():
        say("patient", timeout=60)
        say("quick", timeout=0.5)

    assert min(send.timeout for send in recorder.sends) == 0.5


def test_patient_message_does_not_lift_the_timeout_of_the_broker_for_its_neighbour(recorder):
    with transaction.atomic():
        say("by default within TIMEOUT")
        say("patient", timeout=60)

    [ours] = [send for send in recorder.sends if "by default within TIMEOUT" in send.bodies]
    assert ours.timeout is None or ours.timeout <= 5


def test_body_is_that_of_the_call(recorder):
    payload = {"state": "new"}
    headers = {"state": "new"}

    with transaction.atomic():
        say(payload, headers=headers)
        payload["state"] = headers["state"] = "changed"

    [message] = recorder.sends[0].messages
    assert message.decode() == {"state": "new"}
    assert message.headers == {"state": "new"}


def test_bad_payload_is_refused_at_the_call_and_rolls_back(recorder):
    with pytest.raises(InvalidMessage), transaction.atomic():
        Order.objects.create(number=1)
        say(float("nan"))

    assert not Order.objects.exists()
    assert recorder.bodies == []


@pytest.mark.parametrize("robust", [True, False])
def test_bad_payload_is_refused_at_the_call_however_robust(recorder, robust):
    with pytest.raises(InvalidMessage):
        say(Order(number=1), robust=robust)


def test_hundred_messages_of_a_transaction_are_in_the_queue_in_order(settings, rabbitmq):
    queue = rabbitmq.declare_queue()
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url()}}

    with transaction.atomic():
        ids = [publish_on_commit(number, queue) for number in range(100)]
    stored = rabbitmq.drain(queue)
    brokers.stop()
    rabbitmq.delete_queue(queue)

    assert [int(message.body) for message in stored] == list(range(100))
    assert [message.properties.message_id for message in stored] == ids


def test_rolled_back_messages_are_not_in_the_queue(settings, rabbitmq):
    queue = rabbitmq.declare_queue()
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url()}}

    with transaction.atomic():
        publish_on_commit("kept", queue)
        with pytest.raises(LookupError), transaction.atomic():
            publish_on_commit("dropped", queue)
            raise LookupError
    stored = rabbitmq.drain(queue)
    brokers.stop()
    rabbitmq.delete_queue(queue)

    assert [message.body for message in stored] == [b"kept"]
