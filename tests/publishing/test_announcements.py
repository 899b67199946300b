import asyncio
import logging
import re
import threading
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import isolate_apps

from faststream_django import Message, publish_on_commit
from faststream_django.backends.base import Publication
from faststream_django.connection.bulk import Chunk
from faststream_django.exceptions import BrokerUnavailable, MessageUnroutable
from faststream_django.publishing.announcements import aannounce, aannounce_chunk, announce, announce_chunk
from faststream_django.signals import message_failed, message_published
from faststream_django.testing import capture_messages

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
        chunk.add(index, Publication(message, "events"))

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


@pytest.mark.django_db(transaction=True)  # a message waits for the commit, and its loss comes after that
def test_guide_publishes_again_what_was_lost_after_a_commit():
    page = (Path(__file__).parents[2] / "docs/how-to/lost-messages.md").read_text()
    code = {"__name__": "tests.test_app.guide"}
    with isolate_apps("tests.test_app"):
        for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(example, code)
    rows = code["LostMessage"].objects
    with connection.schema_editor() as editor:
        editor.create_model(code["LostMessage"])
    try:
        with capture_messages(fail_with=BrokerUnavailable):
            message_id = publish_on_commit({"id": 1}, "orders", priority=3)
            assert rows.get().message_id == message_id
            with pytest.raises(BrokerUnavailable):
                code["publish_lost_messages"]()

        with capture_messages() as messages:
            code["publish_lost_messages"]()

        [captured] = messages
        assert (captured.message.message_id, captured.message.priority) == (message_id, 3)
        assert captured.message.decode() == {"id": 1}
        assert rows.count() == 0
    finally:
        message_failed.disconnect(code["keep"])
        with connection.schema_editor() as editor:
            editor.delete_model(code["LostMessage"])


def test_interrupted_announcements_go_on_where_they_were():
    chunk, heard = Chunk(), []
    for index in range(3):
        chunk.add(index, Publication(Message.encode(index, "orders"), "default"))

    def receive(sender, message, **arguments):
        heard.append(message.decode())
        if len(heard) == 2:
            raise KeyboardInterrupt

    message_published.connect(receive)
    try:
        with pytest.raises(KeyboardInterrupt):
            announce_chunk(chunk)
        announce_chunk(chunk)
    finally:
        message_published.disconnect(receive)

    assert heard == [0, 1, 2]
