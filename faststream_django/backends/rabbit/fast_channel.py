"""The fast lane: frames of many messages written at once, confirms of many read at once."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import pamqp.frame
from aiormq.abc import AbstractChannel
from aiormq.channel import exception_by_code
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from faststream_django.backends.base import Publication
from faststream_django.backends.rabbit.channel import PublishChannel, refuse
from faststream_django.backends.rabbit.errors import publish_error, rejected, unroutable
from faststream_django.backends.rabbit.frames import publish_frames
from faststream_django.backends.rabbit.protocol import ACK, CHANNEL_CLOSE, METHOD, NACK, RETURN
from faststream_django.backends.rabbit.wire import Wire

__all__ = ["FastChannel"]

# What is written at once; the rest waits to see whether the socket takes it.
BATCH = 64 * 1024


_method = struct.Struct(">HH")
_confirm = struct.Struct(">QB")


class FastChannel(PublishChannel):
    """Writes frames past aiormq, many messages at once, and reads the confirms of many at once."""

    def __init__(
        self,
        channel: AbstractChannel,
        on_answer: Callable[[], None],
        topology_errors: Mapping[str, str],
        wire: Wire,
        frame_max: int,
    ) -> None:
        super().__init__(channel, on_answer, topology_errors)
        self._number = channel.number
        self._wire = wire
        self._frame_max = frame_max
        self._has_ended = False
        self._confirmed = 0
        self._return: _Return | None = None
        wire.receivers[channel.number] = self

    @property
    def is_closed(self) -> bool:
        return self._has_ended or self._channel.is_closed

    def write(self, pending: OrderedDict[Publication, None], most: int) -> None:
        if not self._wire.may_write():
            return
        parts: list[bytes] = []
        size, before = 0, self._tag
        while pending and most and (taken := self._take(pending)) is not None:
            publication, message = taken
            try:
                frames = publish_frames(message, self._number, self._frame_max)
                self._note(publication, message)
            except Exception as error:  # noqa: BLE001 - a hand-made message, or one that was given up
                refuse(publication, error)
                continue
            parts.append(frames)
            size += len(frames)
            most -= 1
            if size >= BATCH:
                if not self._wire.write(b"".join(parts)):
                    self._take_back(before, pending)
                    return
                parts, size, before = [], 0, self._tag
                if not self._wire.may_write():
                    return
        if parts and not self._wire.write(b"".join(parts)):
            self._take_back(before, pending)

    def _take_back(self, before: int, pending: OrderedDict[Publication, None]) -> None:
        """Put the messages after this tag where they came from: the socket took none of them."""
        while self._tag > before:
            publication = self._discharge(self._tag)
            self._tag -= 1
            if publication is not None:
                self._waiting -= 1
                publication.maybe_sent, publication.channel = False, None
                pending[publication] = None
                pending.move_to_end(publication, last=False)

    async def close(self) -> None:
        await super().close()
        self._wire.receivers.pop(self._number, None)

    def take(self, kind: int, frame: bytes) -> bool:
        """See Receiver."""
        if kind != METHOD:
            return self._return is not None and self._take_content(self._return, frame)
        method = _method.unpack_from(frame, 7)
        if method in (ACK, NACK):
            tag, bits = _confirm.unpack_from(frame, 11)
            self._confirm(tag, multiple=bool(bits & 1), is_nack=method == NACK)
            return True
        if method == RETURN:
            self._return = _Return()
            return True
        if method == CHANNEL_CLOSE:
            self._on_close(frame)
        return False

    def _confirm(self, tag: int, *, multiple: bool, is_nack: bool) -> None:
        nacks = 0
        for each in range(self._confirmed + 1, tag + 1) if multiple else (tag,):
            publication = self._discharge(each)
            if publication is None:
                continue
            nacks += is_nack
            self._settle(publication, rejected(publication) if is_nack else None)
        if multiple:
            self._confirmed = tag
        elif not self._unconfirmed:
            self._confirmed = self._tag
        self._answered(nacks)

    def _take_content(self, returned: _Return, frame: bytes) -> bool:
        """Take the next frame of a message that comes back; its basic.ack follows."""
        if returned.add(pamqp.frame.unmarshal(frame)[2]):
            tag = self._ids.get(returned.message_id)
            self._return = None
            publication = None if tag is None else self._unconfirmed.get(tag)
            if publication is not None:
                self._settle(publication, unroutable(publication))
        return True

    def _on_close(self, frame: bytes) -> None:
        """The broker closes the channel: nothing that is written from now on would be taken."""
        close: Any = pamqp.frame.unmarshal(frame)[2]
        self._has_ended = True
        self._wire.receivers.pop(self._number, None)
        newest = self._tag
        error = exception_by_code(close)
        self._end(lambda publication: publish_error(error, publication, newest=publication.tag == newest))
        self._on_answer()


class _Return:
    """A message that comes back, until its content is complete."""

    def __init__(self) -> None:
        self.message_id = ""
        self._missing: int | None = None

    def add(self, frame: Any) -> bool:
        """Take a frame of the content; return True with the last."""
        if isinstance(frame, ContentHeader):
            self.message_id = frame.properties.message_id or ""
            self._missing = frame.body_size
        elif isinstance(frame, ContentBody) and self._missing is not None:
            self._missing -= len(frame.value)
        return self._missing is not None and self._missing <= 0
