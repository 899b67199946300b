"""Publishing as aiormq does it, for a version of it that has no place for a wire."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping

from aiormq.abc import AbstractChannel

from faststream_django.backends.base import Publication, Verdict
from faststream_django.backends.rabbit.channel import PublishChannel, refuse
from faststream_django.backends.rabbit.errors import publish_error
from faststream_django.backends.rabbit.frames import check_properties
from faststream_django.backends.rabbit.properties import basic_publish
from faststream_django.exceptions import MessageRejected
from faststream_django.messages.message import Message

__all__ = ["PlainChannel"]


class PlainChannel(PublishChannel):
    """Publishes with aiormq's own method, a task for each message: for a version that does not fit."""

    def __init__(
        self,
        channel: AbstractChannel,
        on_answer: Callable[[], None],
        topology_errors: Mapping[str, str],
        frame_max: int,
    ) -> None:
        super().__init__(channel, on_answer, topology_errors)
        self._frame_max = frame_max
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_closed(self) -> bool:
        return self._channel.is_closed

    def write(self, pending: OrderedDict[Publication, None], most: int) -> None:
        while pending and most and (taken := self._take(pending)) is not None:
            publication, message = taken
            try:
                check_properties(message, self._frame_max)
                self._note(publication, message)
            except Exception as error:  # noqa: BLE001 - a hand-made message, or one that was given up
                refuse(publication, error)
                continue
            most -= 1
            task = asyncio.get_running_loop().create_task(self._publish(publication, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish(self, publication: Publication, message: Message) -> None:
        verdict: Verdict = None
        try:
            await basic_publish(self._channel, message)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - translated
            verdict = publish_error(error, publication, newest=publication.tag == self._tag)
        if self._discharge(publication.tag) is not None:
            self._settle(publication, verdict)
            self._answered(int(isinstance(verdict, MessageRejected) and not self.is_closed))
