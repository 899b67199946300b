"""Every error of the driver becomes one of ours, with the meaning that DESIGN.md gives it."""

import asyncio
import ssl
import struct

import pytest
from aiormq import exceptions as aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from faststream_django.backends.base import NotSent, Publication
from faststream_django.backends.rabbit.errors import connect_error, explained, publish_error, unroutable
from faststream_django.exceptions import (
    BrokerRefused,
    BrokerUnavailable,
    ConnectionLost,
    InvalidMessage,
    MessageRejected,
    MessageUnroutable,
)
from faststream_django.messages import Message


def publication(**options):
    sent = Publication(Message.encode(b"secret", message_id="m", **{"queue": "orders", **options}), "default")
    sent.begin_sending()
    return sent


def caused_by(cause, error):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (BrokerRefused("ours"), BrokerRefused, "ours"),
        (aiormq.AuthenticationError("PLAIN"), BrokerRefused, "refused the credentials"),
        (aiormq.ProbableAuthenticationError("x"), BrokerRefused, "refused the credentials"),
        (aiormq.ConnectionNotAllowed("no vhost"), BrokerRefused, "no vhost"),
        (ssl.SSLError("bad certificate"), BrokerRefused, "TLS failed"),
        (caused_by(ssl.SSLError("expired"), aiormq.AMQPConnectionError("x")), BrokerRefused, "TLS failed"),
        (FileNotFoundError("ca.pem"), BrokerRefused, "a TLS file cannot be read"),
        (PermissionError("key.pem"), BrokerRefused, "a TLS file cannot be read"),
        (aiormq.ProtocolSyntaxError("HTTP"), BrokerUnavailable, "does not speak AMQP 0-9-1"),
        (ConnectionRefusedError("refused"), BrokerUnavailable, "refused"),
        (OSError(), BrokerUnavailable, "OSError"),
        (aiormq.AMQPConnectionError("reset"), BrokerUnavailable, "reset"),
        (asyncio.IncompleteReadError(b"", 7), BrokerUnavailable, "bytes"),
        (NotSent("closed"), BrokerUnavailable, "lost at once"),
        (LookupError("odd"), BrokerUnavailable, "LookupError: odd"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failed_attempt_to_connect_is_told_apart(error, kind, text):
    translated = connect_error(error)

    assert type(translated) is kind
    assert text in str(translated)


def returned():
    frame = Basic.Return(312, "NO_ROUTE", "events", "orders")
    message = DeliveredMessage(delivery=frame, header=ContentHeader(), body=b"", channel=None)
    return aiormq.PublishError(message, frame)


NO_EXCHANGE = "NOT_FOUND - no exchange 'events' in vhost '/'"


@pytest.mark.parametrize(
    ("error", "newest", "kind"),
    [
        (aiormq.ChannelInvalidStateError("closed"), True, NotSent),
        (returned(), True, MessageUnroutable),
        (aiormq.DeliveryError(None, None), True, MessageRejected),
        (aiormq.ChannelNotFoundEntity(NO_EXCHANGE), True, MessageUnroutable),
        (aiormq.ChannelNotFoundEntity(NO_EXCHANGE), False, ConnectionLost),
        (aiormq.ChannelNotFoundEntity("NOT_FOUND - no exchange 'other'"), True, ConnectionLost),
        (aiormq.ChannelAccessRefused("access to exchange 'events' refused"), True, MessageRejected),
        (aiormq.ChannelPreconditionFailed("invalid expiration"), True, MessageRejected),
        (aiormq.ChannelClosed(541, "INTERNAL_ERROR on exchange 'events'"), True, ConnectionLost),
        (struct.error("ubyte format"), True, InvalidMessage),
        (ConnectionResetError("reset"), True, ConnectionLost),
        (ConnectionResetError(), True, ConnectionLost),
        (asyncio.CancelledError(), True, ConnectionLost),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failed_publish_gets_the_verdict_that_is_known(error, newest, kind):
    verdict = publish_error(error, publication(exchange="events"), newest=newest)

    assert type(verdict) is kind
    if kind is not NotSent:
        assert (verdict.message_id, verdict.broker) == ("m", "default")
        is_nack = isinstance(error, aiormq.DeliveryError) and kind is MessageRejected
        assert verdict.maybe_sent is (kind is ConnectionLost or is_nack)
        assert "secret" not in str(verdict)


@pytest.mark.parametrize(
    ("text", "is_about"),
    [
        ("access to exchange 'amq.default' in vhost '/' refused", True),
        ("access to exchange 'events' in vhost '/' refused", False),
    ],
)
def test_default_exchange_has_several_names(text, is_about):
    verdict = publish_error(aiormq.ChannelAccessRefused(text), publication(), newest=True)

    assert type(verdict) is (MessageRejected if is_about else ConnectionLost)


@pytest.mark.parametrize(
    ("options", "maybe_sent"),
    [
        ({}, False),
        ({"exchange": "events"}, True),
        ({"headers": {"CC": ["audit"]}}, True),
        ({"headers": {"BCC": ["audit"]}}, True),
    ],
    ids=str,
)
def test_nack_is_no_certainty_where_several_queues_may_take_the_message(options, maybe_sent):
    """One full queue refuses it for all of them."""
    verdict = publish_error(aiormq.DeliveryError(None, None), publication(**options), newest=True)

    assert type(verdict) is MessageRejected
    assert verdict.maybe_sent is maybe_sent
    assert ("It is safe to publish it again" in str(verdict)) is not maybe_sent


def test_unroutable_message_tells_why_its_queue_is_not_there():
    sent = publication()

    told = explained(unroutable(sent), sent.sent_as, {"orders": "PRECONDITION_FAILED"})
    untold = explained(unroutable(sent), sent.sent_as, {"other": "PRECONDITION_FAILED"})

    assert "Declaring 'orders' had failed: PRECONDITION_FAILED" in str(told)
    assert "PRECONDITION_FAILED" not in str(untold)


@pytest.mark.parametrize(
    "kind", [aiormq.ProbableAuthenticationError, aiormq.ConnectionNotAllowed, aiormq.AMQPConnectionError]
)
def test_dot_at_the_end_of_the_brokers_words_is_left_out(kind):
    """It goes on: "... see the broker logfile. Waiting will not help"."""
    text = str(connect_error(kind("ACCESS_REFUSED - For details see the broker logfile.")))

    assert text.endswith("see the broker logfile")


def test_dot_at_the_end_of_the_words_about_a_message_is_not_doubled():
    error = aiormq.ChannelPreconditionFailed("PRECONDITION_FAILED - too large.")

    text = str(publish_error(error, publication(), newest=True))

    assert text.endswith("PRECONDITION_FAILED - too large.")
