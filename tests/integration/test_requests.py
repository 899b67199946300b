"""Requests and their replies on a real connection, through the wire and as aiormq does it."""

import asyncio
import contextlib
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest

from faststream_django import Message
from faststream_django.backends.rabbit import dialing
from faststream_django.exceptions import (
    BrokerBlocked,
    BrokerUnavailable,
    ConnectionLost,
    MessageRejected,
    MessageUnroutable,
    RequestTimeout,
    TooManyInFlight,
)
from faststream_django.loop import loop_thread
from tests.responders import Responder


@pytest.fixture(params=["wire", "aiormq"])
def lane(request, monkeypatch):
    if request.param == "aiormq":
        monkeypatch.setattr(dialing, "make_wire", lambda: None)
    return request.param


@pytest.fixture
def connection(rabbitmq, connect, lane):
    connection = connect(rabbitmq.url())
    connection.start()
    return connection


@pytest.fixture
def respond(rabbitmq):
    """Start a responder on a queue; it is closed at the end."""
    with contextlib.ExitStack() as stack:

        def respond(queue, answer=None):
            responder = Responder(rabbitmq.url(), queue, answer)
            stack.callback(responder.close)
            return responder

        yield respond


@pytest.fixture
def threads():
    with ThreadPoolExecutor(64) as pool:
        yield pool


def ask(queue="", body="x", **options):
    return replace(Message.encode(body, queue, **options), correlation_id=str(uuid4()))


def test_request_returns_what_the_handler_replies(connection, queue, respond):
    respond(queue, lambda body: body + b"!")

    reply = connection.request(ask(queue, "hello"))

    assert reply.message.body == b"hello!"


def test_replies_find_their_requests_whatever_their_order(connection, queue, respond, threads):
    responder = respond(queue)
    answers = {
        number: threads.submit(connection.request, ask(queue, str(number)), 20.0) for number in range(50)
    }

    for request in reversed(responder.take(50)):
        responder.reply(request)

    assert {number: answer.result().message.body for number, answer in answers.items()} == {
        number: str(number).encode() for number in range(50)
    }


def test_reply_of_many_frames_arrives_whole(connection, queue, respond):
    body = bytes(range(256)) * 2_000
    respond(queue, lambda _: body)

    assert connection.request(ask(queue)).message.body == body


def test_empty_reply_is_a_reply(connection, queue, respond):
    respond(queue, lambda _: b"")

    assert connection.request(ask(queue)).message.body == b""


def test_unroutable_request_fails_at_once(connection, queue, respond):
    respond(queue, lambda body: body)
    connection.request(ask(queue))

    taken = []
    for _ in range(21):
        began = time.monotonic()
        with pytest.raises(MessageUnroutable, match="start the worker") as raised:
            connection.request(ask("nowhere"), 20.0)
        taken.append(time.monotonic() - began)

    assert raised.value.maybe_sent is False
    assert statistics.median(taken) < 0.02


def test_lost_reply_costs_its_own_deadline_only(connection, queue, respond, threads):
    responder = respond(queue)
    lost = threads.submit(connection.request, ask(queue, "lost"), 1.0)
    answered = threads.submit(connection.request, ask(queue, "answered"), 20.0)
    requests = {request.body: request for request in responder.take(2)}

    responder.reply(requests[b"answered"])

    assert answered.result(5).message.body == b"answered"
    assert not lost.done()
    with pytest.raises(RequestTimeout, match="A queue has it") as raised:
        lost.result()
    assert raised.value.maybe_sent is True


def test_reply_that_comes_too_late_is_nobody_elses(connection, queue, respond):
    responder = respond(queue)
    with pytest.raises(RequestTimeout):
        connection.request(ask(queue, "first"), 0.3)
    [late] = responder.take()

    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(connection.request, ask(queue, "second"), 20.0)
        [request] = responder.take()
        responder.reply(late)
        responder.reply(request)

        assert second.result().message.body == b"second"


def test_reply_without_the_correlation_id_is_left_alone(connection, queue, respond, threads):
    responder = respond(queue)
    answer = threads.submit(connection.request, ask(queue), 20.0)
    [request] = responder.take()

    for correlation_id in (None, "another"):
        responder.reply(request, b"wrong", correlation_id=correlation_id)
    responder.reply(request, b"right")

    assert answer.result().message.body == b"right"


def test_missing_exchange_harms_no_other_request(connection, queue, respond, threads):
    responder = respond(queue)
    answer = threads.submit(connection.request, ask(queue), 20.0)
    [request] = responder.take()

    with pytest.raises(MessageUnroutable, match="no exchange 'missing'"):
        connection.request(ask(exchange="missing", routing_key="x"))
    responder.reply(request)

    assert answer.result().message.body == b"x"


def test_request_goes_through_an_exchange(connection, rabbitmq, queue, respond):
    rabbitmq.bind(queue, "amq.topic", "price.*")
    respond(queue, lambda body: body)

    assert connection.request(ask(exchange="amq.topic", routing_key="price.asked")).message.body == b"x"


def test_request_that_a_full_queue_refuses_fails_at_once(connection, rabbitmq):
    queue = rabbitmq.declare_queue(
        f"full-{uuid4()}", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    connection.send(Message.encode("x", queue))

    with pytest.raises(MessageRejected):
        connection.request(ask(queue), 20.0)

    rabbitmq.delete_queue(queue)


def test_lost_connection_fails_what_is_in_flight_at_once(connection, rabbitmq, queue, respond, threads):
    responder = respond(queue)
    answers = [threads.submit(connection.request, ask(queue), 30.0) for _ in range(10)]
    responder.take(10)

    began = time.monotonic()
    rabbitmq.close_all_connections()

    for answer in answers:
        with pytest.raises(ConnectionLost, match="before its reply came") as raised:
            answer.result()
        assert raised.value.maybe_sent is True
    assert time.monotonic() - began < 15


def test_next_connection_answers_again(connection, rabbitmq, queue, respond):
    respond(queue, lambda body: body)
    connection.request(ask(queue))

    rabbitmq.close_all_connections()
    respond(queue, lambda body: body)

    assert _eventually(lambda: connection.request(ask(queue), 10.0)).message.body == b"x"


def test_request_without_a_broker_was_not_sent(connect, unreachable_port):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/")

    with pytest.raises(BrokerUnavailable) as raised:
        connection.request(ask("orders"), 0.3)

    assert raised.value.maybe_sent is False


def test_request_waits_for_a_blocked_broker_until_its_deadline(connection, rabbitmq, queue, lane):
    connection.send(Message.encode("x", queue))

    with rabbitmq.memory_alarm():
        with contextlib.suppress(Exception):
            connection.send(Message.encode("x", queue), 0.5)  # RabbitMQ blocks whoever publishes
        with pytest.raises(BrokerBlocked):
            connection.request(ask(queue), 0.5)


def test_publishes_have_places_beside_requests(rabbitmq, connect, queue, respond, threads):
    connection = connect(rabbitmq.url(), max_in_flight=2)
    responder = respond(queue)
    answers = [threads.submit(connection.request, ask(queue), 20.0) for _ in range(2)]
    requests = responder.take(2)

    with pytest.raises(TooManyInFlight, match="2 replies"):
        connection.request(ask(queue))
    connection.send(Message.encode("x", queue))

    for request in requests:
        responder.reply(request)
    assert [answer.result().message.body for answer in answers] == [b"x", b"x"]


def test_stop_waits_for_replies(connection, queue, respond, threads):
    responder = respond(queue)
    answer = threads.submit(connection.request, ask(queue), 20.0)
    [request] = responder.take()

    wait = connection.begin_stop(10.0)
    loop_thread.run(asyncio.sleep, 0.2, timeout=5.0)  # a stop that does not wait would be over
    responder.reply(request)

    assert answer.result().message.body == b"x"
    wait()


def test_stop_tells_what_is_not_answered(connection, queue, respond, threads):
    responder = respond(queue)
    answer = threads.submit(connection.request, ask(queue), 20.0)
    responder.take()

    connection.stop(0.2)

    with pytest.raises(ConnectionLost, match="before its reply came"):
        answer.result()


def test_channels_are_shared_with_publishes_where_few_are_allowed(rabbitmq, connect, queue, respond):
    respond(queue, lambda body: body)
    connection = connect(f"{rabbitmq.url()}?channel_max=2")

    for _ in range(3):
        assert connection.request(ask(queue), 10.0).message.body == b"x"
        connection.send(Message.encode("x", exchange="amq.fanout", mandatory=False), 10.0)


def test_threads_may_request_all_at_once(connection, queue, respond):
    respond(queue, lambda body: body)
    barrier, wrong = threading.Barrier(16), []

    def work(thread):
        barrier.wait()
        for number in range(20):
            body = f"{thread}-{number}"
            if connection.request(ask(queue, body), 20.0).message.body != body.encode():
                wrong.append(body)

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert wrong == []


def _eventually(function, timeout=15):
    """Return what the function returns once it raises no ConnectionLost any more."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return function()
        except (ConnectionLost, MessageUnroutable):
            if time.monotonic() > deadline:
                raise
