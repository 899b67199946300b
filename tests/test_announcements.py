import asyncio
import logging
import threading

import pytest

from faststream_django import Message
from faststream_django.announcements import aannounce, aannounce_chunk, announce, announce_chunk
from faststream_django.backends.base import Delivery
from faststream_django.bulk import Chunk
from faststream_django.exceptions import MessageUnroutable
from faststream_django.signals import message_failed, message_published

LOGGER = "faststream_django.publish"


@pytest.fixture
def heard():
    received = []

    def receive(sender, signal, message, **arguments):
        received.append((signal, message, arguments))

    for signal in (message_published, message_failed):
        signal.connect(receive)
    yield received
    for signal in (message_published, message_failed):
        signal.disconnect(receive)


@pytest.fixture
def message():
    return Message.encode({"card": "4111"}, "orders", headers={"token": "secret"}, message_id="m")


def both_doors(function, twin):
    def through_the_twin(*arguments):
        asyncio.run(twin(*arguments))

    return pytest.mark.parametrize("tell", [function, through_the_twin], ids=["sync", "async"])


@both_doors(announce, aannounce)
def test_confirmed_message_is_published(heard, message, tell):
    tell(message, "default")

    assert heard == [(message_published, message, {"broker": "default"})]


@both_doors(announce, aannounce)
def test_message_with_an_error_has_failed(heard, message, tell):
    error = MessageUnroutable("lost")

    tell(message, "default", error)

    assert heard == [(message_failed, message, {"broker": "default", "error": error})]


@both_doors(announce_chunk, aannounce_chunk)
def test_each_message_of_a_chunk_is_announced_in_order(heard, tell):
    messages = [Message.encode(number, "orders") for number in range(3)]
    error = MessageUnroutable("lost")
    chunk = Chunk(errors={5: error})
    for index, message in enumerate(messages, start=4):
        chunk.add(index, Delivery(message, "events"))

    tell(chunk)

    assert [(signal, message) for signal, message, _ in heard] == [
        (message_published, messages[0]),
        (message_failed, messages[1]),
        (message_published, messages[2]),
    ]
    assert heard[1][2] == {"broker": "events", "error": error}


@both_doors(announce, aannounce)
def test_receiver_that_raises_does_not_stop_the_others(heard, message, tell, caplog):
    def receive(**arguments):
        raise LookupError("the receiver's own")

    message_published.connect(receive)
    tell(message, "default")
    message_published.disconnect(receive)

    assert len(heard) == 1
    assert "the receiver's own" in caplog.text


def test_receivers_are_called_in_the_thread_of_the_caller(message):
    threads = []
    message_published.connect(receive := lambda **arguments: threads.append(threading.current_thread()))

    announce(message, "default")
    message_published.disconnect(receive)

    assert threads == [threading.current_thread()]


def test_confirmed_message_is_logged_without_what_it_holds(message, caplog):
    caplog.set_level(logging.DEBUG, LOGGER)

    announce(message, "default")

    assert caplog.messages == [
        "broker=default message_id='m' exchange='' routing_key='orders' bytes=15 state=confirmed"
    ]


def test_failed_message_is_not_logged_as_confirmed(message, caplog):
    """Whoever gets the error logs it; publish_on_commit() does so itself."""
    caplog.set_level(logging.DEBUG, LOGGER)

    announce(message, "default", MessageUnroutable("lost"))

    assert caplog.messages == []


def test_nothing_is_logged_above_debug(message, caplog):
    caplog.set_level(logging.INFO, LOGGER)

    announce(message, "default")

    assert caplog.messages == []
