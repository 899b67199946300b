"""A channel in confirm mode: what was written to it and has no verdict yet."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from aiormq.abc import AbstractChannel

from faststream_django.backends.base import Publication, Verdict
from faststream_django.backends.rabbit.errors import connection_lost, explained, unwritable
from faststream_django.exceptions import MessageUnroutable, PublishTimeout
from faststream_django.messages.message import Message

__all__ = ["PublishChannel", "refuse"]


class PublishChannel(ABC):
    """The messages that have been written to a channel and have no verdict yet."""

    def __init__(
        self, channel: AbstractChannel, on_answer: Callable[[], None], topology_errors: Mapping[str, str]
    ) -> None:
        self._channel = channel
        self._on_answer = on_answer
        self._topology_errors = topology_errors
        self._tag = 0
        # By delivery tag. What nobody waits for stays until it is confirmed, for the sake of its id.
        self._unconfirmed: dict[int, Publication] = {}
        self._ids: dict[str, int] = {}
        # By id, those that wait for an earlier message with theirs, and where they came from.
        self.aside: dict[str, dict[Publication, OrderedDict[Publication, None]]] = {}
        self._waiting = 0
        self.is_proven = False
        """The broker has answered, so the channel will not be closed for what was written before."""
        self.nacks = 0
        """How many of the last answers were basic.nack."""

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether nothing can be written any more."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for a verdict."""
        return not self._waiting

    @abstractmethod
    def write(self, pending: OrderedDict[Publication, None], most: int) -> None:
        """Take messages from the front and write them, as far as the socket takes them.

        A message steps aside as long as an earlier one with its id is not confirmed: basic.return names the
        message by nothing else. The others pass.
        """

    def forget(self, publication: Publication) -> None:
        """Nobody waits for this verdict any more: what stays until it comes is the id, not the body."""
        if publication.on_settled is not None:
            publication.on_settled = None
            self._waiting -= 1
            message = replace(publication.sent_as, body=b"", headers={})
            self._unconfirmed[publication.tag] = Publication(message, publication.broker)

    def leave(self, publication: Publication) -> None:
        """Forget a message that has stepped aside."""
        message_id = publication.sent_as.message_id
        same = self.aside.get(message_id, {})
        same.pop(publication, None)
        if not same:
            self.aside.pop(message_id, None)

    def release(self) -> None:
        """Give back what has stepped aside: nothing is written here any more."""
        for message_id in tuple(self.aside):
            self._release(message_id)

    @property
    def closing(self) -> asyncio.Future[Any]:
        """Done when the number of the channel is free again."""
        return self._channel.closing

    async def close(self) -> None:
        await self._channel.close()

    def lose(self, reason: str) -> None:
        """End with the connection."""
        self._end(lambda publication: connection_lost(publication, reason))

    def _take(self, pending: OrderedDict[Publication, None]) -> tuple[Publication, Message] | None:
        """Take the first message of which none with its id is on its way."""
        while pending:
            publication, _ = pending.popitem(last=False)
            message = publication.sent_as
            if message.message_id not in self._ids:
                return publication, message
            self.aside.setdefault(message.message_id, {})[publication] = pending
        return None

    def _release(self, message_id: str) -> None:
        for publication, pending in reversed(self.aside.pop(message_id).items()):
            pending[publication] = None
            pending.move_to_end(publication, last=False)

    def _note(self, publication: Publication, message: Message) -> None:
        """Count a message that is about to be written."""
        publication.begin_sending()
        self._tag += 1
        publication.channel, publication.tag = self, self._tag
        self._unconfirmed[self._tag] = publication
        self._ids[message.message_id] = self._tag
        self._waiting += 1

    def _settle(self, publication: Publication, verdict: Verdict) -> None:
        on_settled, publication.on_settled = publication.on_settled, None
        if on_settled is not None:
            self._waiting -= 1
            if isinstance(verdict, MessageUnroutable):
                verdict = explained(verdict, publication.sent_as, self._topology_errors)
            on_settled(publication, verdict)

    def _answered(self, nacks: int) -> None:
        self.is_proven = True
        self.nacks = self.nacks + nacks if nacks else 0
        self._on_answer()

    def _end(self, verdict: Callable[[Publication], Verdict]) -> None:
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        self._ids.clear()
        self.release()
        for publication in unconfirmed.values():
            self._settle(publication, verdict(publication))

    def _discharge(self, tag: int) -> Publication | None:
        """Remove a message from those that are unconfirmed."""
        publication = self._unconfirmed.pop(tag, None)
        if publication is not None:
            message_id = publication.sent_as.message_id
            self._ids.pop(message_id, None)
            if self.aside and message_id in self.aside:
                self._release(message_id)
        return publication


def refuse(publication: Publication, error: Exception) -> None:
    """Conclude a message that was not written."""
    on_settled, publication.on_settled = publication.on_settled, None
    if on_settled is None:
        return
    on_settled(publication, error if isinstance(error, PublishTimeout) else unwritable(publication, error))
