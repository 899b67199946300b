"""What settles a request on its channel, in whatever order the broker's frames come."""

import asyncio
import logging

import pamqp.frame
import pytest
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel
from pamqp.header import ContentHeader

from faststream_django.backends.base import Request
from faststream_django.backends.rabbit.exchange_publisher import ExchangePublisher
from faststream_django.backends.rabbit.reply_channel import FastReplyChannel
from faststream_django.backends.rabbit.wire import Wire
from faststream_django.exceptions import ConnectionLost, MessageRejected, MessageUnroutable
from faststream_django.messages import Message
from tests.wires import DriverChannel, Transport


class Line:
    """A publisher of requests whose channel has both ends of its wire."""

    def __init__(self):
        self.wire = Wire()
        self.wire._transport = Transport()
        self.publisher = ExchangePublisher(self.open)
        self.verdicts = {}

    async def open(self, on_answer):
        self.channel = FastReplyChannel(DriverChannel(), on_answer, {}, self.wire, 131_072)
        return self.channel

    async def send(self, correlation_id):
        message = Message.encode(b"x", "orders", message_id=correlation_id, correlation_id=correlation_id)
        request = Request(message, "default")
        request.on_settled = lambda each, verdict: self.verdicts.update({each.message.message_id: verdict})
        self.publisher.pending[request] = None
        self.publisher.flush()
        for _ in range(5):
            await asyncio.sleep(0)
        return request

    def frames(self, *frames):
        for frame in frames:
            data = pamqp.frame.marshal(frame, 1)
            self.wire.take(data[0], 1, data)

    def confirm(self, tag=1):
        self.frames(Basic.Ack(tag))

    def reply(self, correlation_id, *parts):
        size = sum(map(len, parts))
        properties = Basic.Properties(correlation_id=correlation_id)
        self.frames(
            Basic.Deliver("ctag", 1, False, "", "amq.rabbitmq.reply-to.x"),
            ContentHeader(body_size=size, properties=properties),
            *map(ContentBody, parts),
        )


def run(scenario):
    async def main():
        line = Line()
        return await scenario(line)

    return asyncio.run(main())


def test_confirm_alone_settles_nothing():
    async def scenario(line):
        request = await line.send("a")
        line.confirm()
        return line.verdicts, request.is_routed, line.publisher.is_idle

    assert run(scenario) == ({}, True, False)


@pytest.mark.parametrize("order", [["confirm", "reply"], ["reply", "confirm"]])
def test_reply_settles_before_and_after_the_confirm(order):
    async def scenario(line):
        request = await line.send("a")
        steps = {"confirm": line.confirm, "reply": lambda: line.reply("a", b"one", b"two")}
        for step in order:
            steps[step]()
        return line.verdicts, request.reply.message.body, line.publisher.is_idle

    assert run(scenario) == ({"a": None}, b"onetwo", True)


def test_reply_without_a_body_is_complete_with_its_header():
    async def scenario(line):
        request = await line.send("a")
        line.reply("a")
        return request.reply.message.body

    assert run(scenario) == b""


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([Basic.Nack(1)], MessageRejected),
        (
            [
                Basic.Return(312, "NO_ROUTE", "", "orders"),
                ContentHeader(body_size=1, properties=Basic.Properties(message_id="a")),
                ContentBody(b"x"),
            ],
            MessageUnroutable,
        ),
        ([Channel.Close(404, "NOT_FOUND - no exchange '' in vhost '/'", 60, 40)], MessageUnroutable),
        ([Channel.Close(541, "INTERNAL_ERROR", 0, 0)], ConnectionLost),
    ],
)
def test_refusal_settles_a_request(frames, error):
    async def scenario(line):
        await line.send("a")
        line.frames(*frames)
        return line.verdicts["a"]

    assert type(run(scenario)) is error


def test_channel_that_is_closed_for_another_loses_what_waits_for_a_reply():
    async def scenario(line):
        await line.send("a")
        line.confirm()
        line.frames(Channel.Close(404, "NOT_FOUND - no exchange '' in vhost '/'", 60, 40))
        return line.verdicts["a"]

    verdict = run(scenario)
    assert type(verdict) is ConnectionLost
    assert "before its reply came" in str(verdict)


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_withdrawn_request_is_told_nothing(is_confirmed):
    async def scenario(line):
        request = await line.send("a")
        if is_confirmed:
            line.confirm()
        line.publisher.withdraw(request)
        line.reply("a", b"late")
        if not is_confirmed:
            line.confirm()
        return line.verdicts, request.reply, line.channel.is_idle

    assert run(scenario) == ({}, None, True)


def test_reply_whose_properties_cannot_be_read_is_skipped(caplog):
    async def scenario(line):
        await line.send("a")
        header = bytearray(
            pamqp.frame.marshal(
                ContentHeader(body_size=1, properties=Basic.Properties(headers={"key": "value"})), 1
            )
        )
        header[header.index(b"keyS") + 3] = ord("?")  # no such type
        line.frames(Basic.Deliver("ctag", 1, False, "", "x"))
        line.wire.take(2, 1, bytes(header))
        line.frames(ContentBody(b"x"))
        line.reply("a", b"fine")
        return line.verdicts

    with caplog.at_level(logging.WARNING, "faststream_django.publish"):
        assert run(scenario) == {"a": None}
    assert "state=unreadable-reply" in caplog.text
