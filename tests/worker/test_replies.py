"""What the worker tells whoever waits for a reply, on the embedded broker."""

import asyncio
import logging
import uuid

import pytest

from faststream_django import Message, brokers
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.backends.rabbit.incoming import incoming
from faststream_django.worker.replies import error_reply


@pytest.fixture
def server(settings):
    url = f"memory://{uuid.uuid4().hex}"
    settings.FASTSTREAM = {
        "default": {"URL": url, "QUEUES": {"answers": {"bind": {"amq.direct": "answers"}}}}
    }
    yield MemoryServer.get(url)
    brokers.stop(1)


def request_for(reply_to):
    """Return a request as a worker has it."""
    return incoming(
        Message.encode({"id": 1}, "prices", message_id="m-1", correlation_id="c-1", reply_to=reply_to)
    )


def test_error_reply_names_the_class_of_the_error_alone(server):
    told = asyncio.run(error_reply("default", request_for("answers"), ValueError("secret")))

    [reply] = server.drain("answers")
    assert told
    assert (reply.body, reply.headers) == (b"", {"faststream-error": "ValueError"})
    assert reply.correlation_id == "c-1"


def test_message_that_is_no_request_gets_no_error_reply(server):
    assert asyncio.run(error_reply("default", request_for(None), ValueError())) is False


def test_error_reply_reaches_a_queue_behind_an_exchange(server):
    asyncio.run(error_reply("default", request_for("answers|amq.direct"), ValueError()))

    [reply] = server.drain("answers")
    assert reply.exchange == "amq.direct"


@pytest.mark.parametrize("reply_to", ["gone", "answers|no such \N{BULLET} exchange"])
def test_lost_error_reply_is_logged_and_not_raised(server, caplog, reply_to):
    with caplog.at_level(logging.WARNING, "faststream_django.worker"):
        asyncio.run(error_reply("default", request_for(reply_to), ValueError("secret"), queue="prices"))

    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "queue='prices' correlation_id='c-1' state=reply-lost" in record.getMessage()
    assert "secret" not in caplog.text


def test_error_reply_in_an_outage_is_logged_and_not_raised(server, settings, caplog):
    settings.FASTSTREAM = {"default": {**settings.FASTSTREAM["default"], "TIMEOUT": 0.1}}
    server.stop()

    with caplog.at_level(logging.WARNING, "faststream_django.worker"):
        asyncio.run(error_reply("default", request_for("answers"), ValueError()))

    assert "state=reply-lost reason='message" in caplog.text
