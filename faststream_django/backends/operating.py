"""What an operator can do with the queues of a transport: count, take, move, delete, put back.

An `OperatorSession` is a connection of its own, for as long as somebody looks. Whatever ends it, what was
taken and neither moved nor deleted lies in its queue again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faststream_django.conf.topology import QueueSettings

__all__ = [
    "NotMoved",
    "OperationRefused",
    "OperatorChannel",
    "OperatorSession",
    "QueuedMessage",
    "Unwritable",
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class QueuedMessage:
    """A message as it lies in a queue; its repr shows nothing of it."""

    body: bytes
    properties: Any
    """The basic properties with the headers, as pamqp has them."""
    exchange: str = ""
    routing_key: str = ""
    """By what it came into the queue."""
    handle: Any = field(default=None, compare=False)
    """What the channel knows it by."""

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.properties.headers or {}


class OperationRefused(Exception):
    """The broker refuses, in its own words; nothing was changed."""


class Unwritable(OperationRefused):
    """The driver cannot write this message, which is where it was; the channel is as good as before."""


class NotMoved(Exception):
    """The target did not take the message, which lies in no queue any more: put it back.

    With `is_uncertain` the target may have it, or get it later.
    """

    def __init__(self, reason: str, *, is_uncertain: bool = False) -> None:
        super().__init__(reason)
        self.is_uncertain = is_uncertain


class OperatorChannel(ABC):
    """Takes messages out of queues. What it holds goes back to its place when it ends, however it ends.

    Every method raises BrokerUnavailable if the connection is lost, or the broker does not answer in time.
    """

    @abstractmethod
    async def take(self, queue: str) -> QueuedMessage | None:
        """Take the message at the head; return None if there is none. Raise OperationRefused."""

    async def move(self, message: QueuedMessage, queue: str, properties: Any) -> None:
        """Move a message that was taken, with other properties, to a queue that moves_atomically().

        Raise OperationRefused, after which it is in its queue, or NotMoved, after which it is in none. When
        BrokerUnavailable is raised it is in one of the two. Whatever is raised, the channel is of no use
        afterwards.
        """
        raise NotImplementedError(f"{type(self).__name__} moves nothing")

    @abstractmethod
    async def delete(self, *messages: QueuedMessage) -> None:
        """Have messages deleted that were taken, before anything else that is asked of this channel."""

    @abstractmethod
    async def settle(self) -> None:
        """Return once the broker has done what it was asked for."""

    @abstractmethod
    async def close(self) -> None:
        """Give back what is held. Never raises."""


class OperatorSession(ABC):
    """One connection to one node, for an operator. Methods raise as those of `OperatorChannel`."""

    @abstractmethod
    async def count(self, queue: str) -> int | None:
        """Return how many messages wait in a queue; None if there is no such queue."""

    async def moves_atomically(self, queue: QueueSettings) -> bool:  # noqa: ARG002
        """Tell whether move() may be used with this queue, which exists.

        It may if it is certain that a message is in the one queue or in the other, whenever the client dies,
        and that a refusal is told.
        """
        return False

    @abstractmethod
    async def open_channel(self) -> OperatorChannel:
        """Return a new channel."""

    @abstractmethod
    async def put(self, message: QueuedMessage, queue: str) -> None:
        """Publish a message as it is into a queue; return once the broker has confirmed it."""

    @abstractmethod
    async def close(self) -> None:
        """End the connection. Never raises."""
