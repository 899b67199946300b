"""The limit: a blocking socket that sends frames made beforehand and counts the confirms.

No client that sends these frames can be faster on one connection: it encodes nothing and tells nobody.
They are ours, with both ids, the timestamp and the app id: the node reads and stores every property, so
that it takes bare messages at a higher rate.
"""

from __future__ import annotations

import socket
import struct
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from pamqp import body, commands, frame, header

from benchmarks.contenders.base import Contender
from benchmarks.sample import Sample, durations, measure
from benchmarks.workload import encode

_CHANNEL = 1
_FRAME_MAX = 131072
_ACK = struct.Struct(">BHIHHQB")  # the frame of Basic.Ack but for its last byte
_ACK_SIZE = _ACK.size + 1
_BASIC_ACK = (60, 80)


class RawSocket(Contender):
    """The frames of one of our messages, over and over."""

    def open(self) -> None:
        self._session = _Session(self.url)
        self._frames = self.frames()

    def frames(self) -> bytes:
        from faststream_django import Message
        from faststream_django.backends.rabbit.frames import publish_frames

        return publish_frames(Message.encode(self.workload.message, self.queue), _CHANNEL, _FRAME_MAX)

    def round(self) -> Sample:
        workload = self.workload
        if workload.way == "commits":
            return self._calls(workload.calls, workload.count, workload.count)
        if workload.at_once == 1:
            return self._calls(workload.total, 1, 1)
        return self._calls(1, workload.total, workload.at_once)

    def close(self) -> None:
        self._session.close()

    def _calls(self, calls: int, count: int, in_flight: int) -> Sample:
        publish = partial(self._session.publish, self._frames, count, in_flight)
        return measure(lambda: durations(publish, calls), calls * count)


class RawSocketBare(RawSocket):
    """The same body with nothing but its content type, persistent."""

    def frames(self) -> bytes:
        return _bare_frames(self.queue, encode(self.workload.message))


class RoundTrip(RawSocket):
    """One message after the other, whatever the workload is."""

    def round(self) -> Sample:
        return self._calls(self.workload.total, 1, 1)


class _Session:
    """A connection with one channel in confirm mode."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._sent = 0
        self._floor = 0  # every message up to this one is confirmed
        self._above: set[int] = set()
        self._shake_hands(f"\0{address.username}\0{address.password}")

    def publish(self, frames: bytes, count: int, in_flight: int) -> None:
        """Send `count` times the same frames, with at most `in_flight` unconfirmed; wait for the last."""
        last = self._sent + count
        while self._floor < last:
            room = min(in_flight - self._sent + self._floor + len(self._above), last - self._sent)
            if room:
                self._socket.sendall(frames * room)
                self._sent += room
            self._take_confirms()

    def close(self) -> None:
        self._ask(commands.Connection.Close(200, "", 0, 0), 0, "Connection.CloseOk")
        self._socket.close()

    def _take_confirms(self) -> None:
        data = self._received + self._socket.recv(65536)
        end = len(data) - len(data) % _ACK_SIZE
        for start in range(0, end, _ACK_SIZE):
            _, _, _, *method, tag, is_multiple = _ACK.unpack_from(data, start)
            if tuple(method) != _BASIC_ACK:
                raise RuntimeError(f"RabbitMQ sent something else than a confirm: {data[start:]!r}")
            self._settle(tag, is_multiple=bool(is_multiple))
        self._received = data[end:]

    def _settle(self, tag: int, *, is_multiple: bool) -> None:
        if is_multiple:
            self._floor = max(self._floor, tag)
            self._above = {other for other in self._above if other > self._floor}
        else:
            self._above.add(tag)
        while self._floor + 1 in self._above:
            self._floor += 1
            self._above.discard(self._floor)

    def _shake_hands(self, response: str) -> None:
        self._socket.sendall(header.ProtocolHeader().marshal())
        self._expect("Connection.Start")
        tune = self._ask(commands.Connection.StartOk({}, "PLAIN", response, "en_US"), 0, "Connection.Tune")
        # Without heartbeats: between the rounds nobody would send them.
        self._send(commands.Connection.TuneOk(tune.channel_max, _FRAME_MAX, 0), 0)
        self._ask(commands.Connection.Open("/"), 0, "Connection.OpenOk")
        self._ask(commands.Channel.Open(), _CHANNEL, "Channel.OpenOk")
        self._ask(commands.Confirm.Select(), _CHANNEL, "Confirm.SelectOk")

    def _ask(self, method: Any, channel: int, answer: str) -> Any:
        self._send(method, channel)
        return self._expect(answer)

    def _send(self, method: Any, channel: int) -> None:
        self._socket.sendall(frame.marshal(method, channel))

    def _expect(self, name: str) -> Any:
        while True:
            size, _, answer = frame.unmarshal(self._received) if self._received else (0, 0, None)
            if answer is None:
                self._received += self._socket.recv(65536)
                continue
            self._received = self._received[size:]
            if answer.name != name:
                raise RuntimeError(f"RabbitMQ answered {answer.name}, not {name}")
            return answer


def _bare_frames(queue: str, content: bytes) -> bytes:
    properties = commands.Basic.Properties(content_type="application/json", delivery_mode=2)
    size = _FRAME_MAX - 8
    parts: list[frame.FrameTypes] = [
        commands.Basic.Publish(exchange="", routing_key=queue, mandatory=True),
        header.ContentHeader(body_size=len(content), properties=properties),
        *(body.ContentBody(content[start : start + size]) for start in range(0, len(content), size)),
    ]
    return b"".join(frame.marshal(part, _CHANNEL) for part in parts)
