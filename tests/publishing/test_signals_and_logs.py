import asyncio
import logging
import threading

import pytest

from faststream_django import Message, apublish, apublish_many, publish, publish_many
from faststream_django.exceptions import MessageUnroutable, PublishError
from faststream_django.signals import message_failed, message_published
from tests.publishing.verbs import bodies, call


@pytest.mark.parametrize("verb", [publish, publish_many])
def test_confirmed_message_is_announced_in_the_thread_of_the_caller(server, heard, verb):
    call(verb, "x", "orders")

    [(sender, signal, arguments)] = heard
    assert sender is Message
    assert signal is message_published
    assert arguments["message"].decode() == "x"
    assert arguments["broker"] == "default"
    assert arguments["thread"] is threading.current_thread()
    assert arguments.keys() == {"message", "broker", "thread"}


def test_failed_message_is_announced_with_its_error(server, heard):
    with pytest.raises(MessageUnroutable) as raised:
        publish("x", "nowhere")

    [(sender, signal, arguments)] = heard
    assert sender is Message
    assert signal is message_failed
    assert arguments["error"] is raised.value
    assert arguments["thread"] is threading.current_thread()


@pytest.mark.parametrize("verb", [apublish, apublish_many])
def test_async_verbs_announce_too(server, heard, verb):
    call(verb, "x", "orders")
    with pytest.raises(PublishError):
        call(verb, "x", "nowhere")

    assert [signal for _, signal, _ in heard] == [message_published, message_failed]


def test_async_receivers_are_awaited(server):
    received = []

    async def receive(sender, message, **arguments):
        received.append(message.decode())

    message_published.connect(receive)
    asyncio.run(apublish("async", "orders"))
    publish("sync", "orders")
    message_published.disconnect(receive)

    assert received == ["async", "sync"]


@pytest.mark.parametrize("verb", [publish, publish_many, apublish, apublish_many])
def test_receiver_that_raises_changes_nothing(server, verb, caplog):
    def receive(sender, **arguments):
        raise LookupError("the receiver's own")

    message_published.connect(receive)
    message_failed.connect(receive)
    result = call(verb, Message.encode("x", "orders", message_id="given"))
    with pytest.raises(PublishError):
        call(verb, "x", "nowhere")
    message_published.disconnect(receive)
    message_failed.disconnect(receive)

    assert result in ("given", 1)
    assert bodies(server) == ["x"]


def test_each_message_is_logged_at_debug_without_its_body_and_headers(server, caplog):
    caplog.set_level(logging.DEBUG, "faststream_django.publish")

    message_id = publish({"card": "4111"}, "orders", headers={"token": "secret"})

    [record] = caplog.records
    text = record.getMessage()
    assert record.levelno == logging.DEBUG
    assert record.name == "faststream_django.publish"
    assert message_id in text
    assert "routing_key='orders'" in text
    assert "broker=default" in text
    assert "4111" not in text
    assert "secret" not in text
