"""What the wire takes from the stream of a connection, and what it leaves to aiormq."""

import asyncio
import dataclasses
import socket
import struct
from collections import OrderedDict

import pamqp.frame
import pytest
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Connection
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat
from yarl import URL

from faststream_django.backends.base import Publication
from faststream_django.backends.rabbit.fast_channel import FastChannel
from faststream_django.backends.rabbit.wire import HEARTBEAT_FRAME, Wire, _Protocol, _Tap
from faststream_django.exceptions import ConnectionLost, MessageRejected, MessageUnroutable
from faststream_django.messages import Message
from tests.wires import DriverChannel, Transport

ACK = pamqp.frame.marshal(Basic.Ack(1), 1)
BEAT = pamqp.frame.marshal(Heartbeat(), 0)
OPEN_OK = pamqp.frame.marshal(Channel.OpenOk(), 1)


class Taker:
    """A channel that takes every basic.ack."""

    def __init__(self):
        self.frames = []

    def take(self, kind, frame):
        if isinstance(pamqp.frame.unmarshal(frame)[2], Basic.Ack):
            self.frames.append(frame)
            return True
        return False


def feed(*pieces, wire=None):
    """Return what aiormq reads of the pieces, and the frames that the channel took."""
    taker = Taker()

    async def main():
        tap = _Tap(wire or Wire())
        tap._wire.receivers[1] = taker
        for piece in pieces:
            tap.feed_data(piece)
        tap.feed_eof()
        return await tap.read()

    return asyncio.run(main()), taker.frames


def test_frames_of_the_channel_are_taken_and_the_others_left():
    assert feed(BEAT + ACK + OPEN_OK + ACK) == (BEAT + OPEN_OK, [ACK, ACK])


@pytest.mark.parametrize("at", range(1, len(BEAT + ACK + OPEN_OK)))
def test_frames_may_arrive_in_pieces(at):
    stream = BEAT + ACK + OPEN_OK

    assert feed(stream[:at], stream[at:]) == (BEAT + OPEN_OK, [ACK])


def test_incomplete_frame_at_the_end_is_left():
    assert feed(BEAT + ACK[:-1]) == (BEAT + ACK[:-1], [])


@pytest.mark.parametrize(
    "stream", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x00\x09\x01", b"\x00" * 20]
)
def test_what_is_not_amqp_is_left_as_it_is(stream):
    assert feed(stream, ACK) == (stream + ACK, [])


def test_frame_without_its_end_is_left():
    broken = ACK[:-1] + b"\x00"

    assert feed(broken) == (broken, [])


@pytest.mark.parametrize("channel", [0, 1])
def test_frame_without_what_its_kind_has_is_left(channel):
    """aiormq finds it malformed and ends the connection."""
    truncated = b"\x01" + channel.to_bytes(2) + b"\x00\x00\x00\x04\x00\x3c\x00\x50\xce"
    desk = Desk("a")

    left = [desk.wire.take(1, channel, frame) for frame in (truncated, truncated[:7] + b"\x00\xce")]

    assert left == [False, False]
    assert desk.results == []


def test_frame_of_absurd_length_is_left():
    """It would be collected in memory for ever."""
    absurd = b"\x01\x00\x01\xff\xff\xff\xff" + b"x" * 100

    assert feed(absurd, ACK) == (absurd + ACK, [])


def test_connection_that_only_confirms_looks_alive():
    """aiormq would end one of which it sees no frame for three heartbeats."""
    left, taken = feed(ACK, ACK, ACK)

    assert left == HEARTBEAT_FRAME
    assert len(taken) == 3


@pytest.mark.parametrize(
    ("frame", "state"),
    [
        (Connection.Blocked("low on memory"), {"is_blocked": True}),
        (Connection.Close(320, "CONNECTION_FORCED", 0, 0), {"has_ended": True}),
    ],
)
def test_wire_is_not_open_after_the_broker_says_so(frame, state):
    wire = Wire()
    wire._transport = Transport()
    assert wire.may_write()

    data = pamqp.frame.marshal(frame, 0)
    left, _ = feed(data, wire=wire)

    assert left == data
    assert not wire.may_write()
    assert {name: getattr(wire, name) for name in state} == state


def test_wire_is_open_again_when_the_broker_unblocks():
    wire = Wire()
    wire._transport = Transport()
    changes = []
    wire.on_change = lambda: changes.append(wire.may_write())

    feed(
        *(pamqp.frame.marshal(frame, 0) for frame in (Connection.Blocked("x"), Connection.Unblocked())),
        wire=wire,
    )

    assert changes == [False, True]


def test_wire_tells_when_the_socket_is_full_and_when_it_takes_data_again():
    wire = Wire()
    wire._transport = Transport()
    changes = []
    wire.on_change = lambda: changes.append(wire.may_write())

    async def main():
        protocol = _Protocol(wire, _Tap(wire))
        protocol.pause_writing()
        protocol.resume_writing()

    asyncio.run(main())

    assert changes == [False, True]


class Desk:
    """A channel on a wire, some messages on it, and the verdicts on them in their order."""

    def __init__(self, *message_ids):
        self.wire = Wire()
        self.wire._transport = self.transport = Transport()
        self.answers = 0
        self.verdicts = []
        self.channel = FastChannel(DriverChannel(), self.answer, {}, self.wire, 131_072)
        self.write(*message_ids)

    def answer(self):
        self.answers += 1

    def write(self, *message_ids):
        pending = OrderedDict()
        for message_id in message_ids:
            publication = Publication(Message.encode(b"x", "orders", message_id=message_id), "default")
            publication.on_settled = lambda each, verdict: self.verdicts.append(
                (each.message.message_id, verdict)
            )
            pending[publication] = None
        self.channel.write(pending, len(pending))
        self.pending = pending

    def feed(self, *frames):
        for frame in frames:
            self.wire.take(frame_type(frame), 1, pamqp.frame.marshal(frame, 1))

    @property
    def results(self):
        return [(message_id, type(verdict)) for message_id, verdict in self.verdicts]


OK = type(None)


def frame_type(frame):
    return pamqp.frame.marshal(frame, 1)[0]


def returned(message_id, body=b"x"):
    header = ContentHeader(body_size=len(body), properties=Basic.Properties(message_id=message_id))
    bodies = [ContentBody(body[at : at + 4]) for at in range(0, len(body), 4)]
    return [Basic.Return(312, "NO_ROUTE", "", "orders"), header, *bodies]


def test_messages_that_wait_are_written_at_once():
    desk = Desk("a", "b", "c")

    assert len(desk.transport.written) == 1


def test_one_confirm_settles_many():
    desk = Desk("a", "b", "c", "d")

    desk.feed(Basic.Ack(3, multiple=True))

    assert desk.results == [("a", OK), ("b", OK), ("c", OK)]
    assert desk.answers == 1
    assert not desk.channel.is_idle


def test_confirms_may_come_in_any_order():
    desk = Desk("a", "b", "c", "d", "e")

    desk.feed(Basic.Ack(2), Basic.Ack(5), Basic.Ack(4, multiple=True))

    assert desk.results == [("b", OK), ("e", OK), ("a", OK), ("c", OK), ("d", OK)]
    assert desk.channel.is_idle


def test_nack_of_many_refuses_each():
    desk = Desk("a", "b", "c")

    desk.feed(Basic.Nack(2, multiple=True), Basic.Ack(3))

    assert desk.results == [("a", MessageRejected), ("b", MessageRejected), ("c", OK)]


def test_returned_message_is_unroutable_and_its_confirm_says_nothing_more():
    desk = Desk("a", "b", "c")

    desk.feed(*returned("b"), Basic.Ack(3, multiple=True))

    assert desk.results == [("b", MessageUnroutable), ("a", OK), ("c", OK)]


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 50])
def test_content_of_a_returned_message_is_read_to_its_end(body):
    desk = Desk("a", "b")

    desk.feed(*returned("a", body), Basic.Ack(2), Basic.Ack(1))

    assert desk.results == [("a", MessageUnroutable), ("b", OK)]


def test_message_waits_for_an_earlier_one_with_its_id():
    """basic.return tells them apart by nothing else."""
    desk = Desk("a", "b")

    desk.write("a", "a", "c")
    first = desk.transport.message_ids
    desk.feed(Basic.Ack(1))
    desk.channel.write(desk.pending, 2)

    assert first == ["a", "b", "c"]
    assert desk.transport.message_ids == ["a", "b", "c", "a"]
    desk.feed(Basic.Ack(4, multiple=True))
    desk.channel.write(desk.pending, 2)
    assert desk.transport.message_ids == ["a", "b", "c", "a", "a"]


def test_id_of_a_forgotten_message_stays_taken_until_its_confirm():
    desk = Desk("a")
    (publication,) = desk.channel._unconfirmed.values()

    desk.channel.forget(publication)
    desk.write("a")

    assert desk.channel.is_idle
    assert desk.transport.message_ids == ["a"]


def test_body_of_a_forgotten_message_is_dropped():
    """The broker may stay silent for long, and no window counts what was given up."""
    desk = Desk("a")
    (publication,) = desk.channel._unconfirmed.values()

    desk.channel.forget(publication)

    kept = desk.channel._unconfirmed.values()
    assert publication not in kept
    assert [(each.sent_as.message_id, each.message.body, each.sent_as.body) for each in kept] == [
        ("a", b"", b"")
    ]


def test_message_that_stepped_aside_can_be_withdrawn():
    desk = Desk("a")
    desk.write("a", "a")
    (aside,) = desk.channel.aside.values()

    for publication in tuple(aside):
        desk.channel.leave(publication)

    assert desk.channel.aside == {}
    desk.feed(Basic.Ack(1))
    assert not desk.pending


def test_channel_that_is_closed_for_the_newest_message_leaves_the_others_in_doubt():
    desk = Desk("a", "b")

    desk.feed(Channel.Close(404, "NOT_FOUND - no exchange 'x' in vhost '/'", 60, 40))

    assert desk.channel.is_closed
    assert desk.results == [("a", ConnectionLost), ("b", ConnectionLost)]


def test_lost_connection_leaves_every_message_in_doubt_but_the_confirmed():
    desk = Desk("a", "b")
    desk.feed(Basic.Ack(1))

    desk.channel.lose("reset by peer")

    assert desk.results == [("a", OK), ("b", ConnectionLost)]
    assert "reset by peer" in str(desk.verdicts[1][1])


def test_message_without_frames_is_refused_and_the_others_are_written():
    desk = Desk()
    good = Message.encode(b"x", "orders", message_id="good")
    pending = OrderedDict()
    for message in (dataclasses.replace(good, message_id="bad", priority=300), good):
        publication = Publication(message, "default")
        publication.on_settled = lambda each, verdict: desk.verdicts.append(
            (each.message.message_id, verdict)
        )
        pending[publication] = None

    desk.channel.write(pending, 2)
    desk.feed(Basic.Ack(1))

    assert [message_id for message_id, _ in desk.verdicts] == ["bad", "good"]
    assert "cannot be written as AMQP" in str(desk.verdicts[0][1])


def test_message_whose_caller_has_gone_is_not_written():
    desk = Desk()
    publication = Publication(Message.encode(b"x", "orders"), "default")
    publication.give_up()

    desk.channel.write(OrderedDict([(publication, None)]), 1)

    assert not desk.transport.written


def loop_factories():
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    try:
        import uvloop
    except ImportError:
        return
    yield pytest.param(uvloop.new_event_loop, id="uvloop")


@pytest.mark.parametrize("new_loop", list(loop_factories()))
def test_what_the_socket_refused_whole_is_taken_back(new_loop):
    """The kernel knows of the reset, the loop does not yet."""
    names = ["a", "b", "b", "c"]

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server:
            wire = Wire()
            port = server.getsockname()[1]
            _, writer = await wire.create(URL(f"amqp://127.0.0.1:{port}"), ssl_context_provider=None)
            peer, _ = server.accept()
            channel = FastChannel(DriverChannel(), list, {}, wire, 131_072)
            pending = OrderedDict.fromkeys(
                Publication(Message.encode(b"x", "orders", message_id=name), "default") for name in names
            )
            channel.write(pending, 1)
            peer.recv(4096)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            left = list(pending)
            channel.write(pending, len(pending))
            writer.transport.abort()
            return left, list(pending), channel

    with asyncio.Runner(loop_factory=new_loop) as runner:
        left, taken_back, channel = runner.run(main())

    assert taken_back == left
    assert not any(publication.maybe_sent for publication in left)
    assert [each.sent_as.message_id for each in channel._unconfirmed.values()] == ["a"]
