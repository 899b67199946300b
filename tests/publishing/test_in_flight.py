import asyncio
import threading

import pytest
from faststream import BaseMiddleware

from faststream_django import publish, publish_many
from faststream_django.exceptions import BrokerUnavailable, MessageUnroutable, TooManyInFlight
from tests.publishing.verbs import bodies


def test_too_many_in_flight_is_refused_at_once(configure):
    entered, leave = threading.Semaphore(0), threading.Event()

    class Holding(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body.startswith(b"held"):
                entered.release()
                await asyncio.to_thread(leave.wait, 10)
            return await call_next(command)

    server = configure(Holding, MAX_IN_FLIGHT=2)
    threads = [threading.Thread(target=publish, args=(f"held {n}", "orders")) for n in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert entered.acquire(timeout=10)

    with pytest.raises(TooManyInFlight, match="MAX_IN_FLIGHT") as raised:
        publish("one more", "orders")
    leave.set()
    for thread in threads:
        thread.join()
    publish("next", "orders")

    assert raised.value.maybe_sent is False
    assert isinstance(raised.value, BrokerUnavailable)
    assert sorted(bodies(server)) == ["held 0", "held 1", "next"]


def test_place_in_flight_is_free_again_after_an_error(configure):
    server = configure(MAX_IN_FLIGHT=1)

    for _ in range(3):
        with pytest.raises(MessageUnroutable):
            publish("x", "nowhere")
    publish("x", "orders")

    assert bodies(server) == ["x"]


def test_bulk_larger_than_the_window_waits_for_room(configure):
    server = configure(MAX_IN_FLIGHT=2)

    assert publish_many(range(20), "orders") == 20
    assert bodies(server) == list(range(20))
