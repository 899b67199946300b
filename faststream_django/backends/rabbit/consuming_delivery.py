"""A message in hand, from its delivery until it is settled."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from faststream_django.backends.rabbit.received import Received, ReceivedMessage

if TYPE_CHECKING:
    from faststream_django.backends.rabbit.subscriptions import Subscription

__all__ = ["Delivery", "DeliveryChannel", "Outcome"]

# What the broker counts in the headers of a message that it delivers again; the message is the same.
COUNTS = frozenset({"x-delivery-count", "x-acquired-count"})


class Outcome(Enum):
    """What a message is settled with."""

    ACK = "ack"
    REJECT = "reject"
    """Dropped, or taken over by the dead letter exchange of its queue."""
    REQUEUE = "requeue"


class DeliveryChannel(Protocol):
    """The channel of one session that a message came through."""

    def settle(self, tag: int, outcome: Outcome) -> None:
        """Tell the broker, unless the channel is gone: then the message comes again."""

    def deliveries_up_to(self, tag: int) -> list[Delivery]:
        """Return what has this tag or an earlier one, and is not settled."""


class _CanNack:
    basic_nack = True


class Delivery:
    """One message from the broker. It outlives the session that it came through.

    It is the channel that aio-pika's message settles itself on. Copies of the same message, which come when
    a session was lost, are settled together with it.
    """

    __slots__ = ("_copies", "_received", "key", "on_settled", "outcome", "subscription")

    connection = _CanNack()  # aio-pika asks the connection of a channel whether the broker can do it
    is_closed = False

    def __init__(
        self,
        subscription: Subscription,
        channel: DeliveryChannel,
        received: Received,
    ) -> None:
        self.subscription = subscription
        self.outcome: Outcome | None = None
        self.on_settled: Callable[[Delivery], None] | None = None
        self._received = received
        self._copies = [(channel, received.tag)]
        self.key = self._key()
        """What this message shares with its copies only; None without an id: no two can be told apart."""

    @property
    def is_redelivered(self) -> bool:
        return self._received.is_redelivered

    @property
    def channel(self) -> DeliveryChannel:
        """The channel that it came through first."""
        return self._copies[0][0]

    @property
    def message_id(self) -> str | None:
        return self._received.properties.message_id or None

    def _key(self) -> Hashable | None:
        message_id = self.message_id
        if message_id is None:
            return None
        content: tuple[bytes | str, ...] = (self._received.body,)
        headers = self._received.properties.headers
        if headers:  # they tell a message from what comes back for another attempt
            told = {name: value for name, value in headers.items() if name not in COUNTS}
            content = (self._received.body, repr(told))
        return self.subscription.queue.name, message_id, hash(content)

    @property
    def is_settled(self) -> bool:
        return self.outcome is not None

    @property
    def is_acked(self) -> bool:
        """Whether it was settled because nothing more is to be done with it."""
        return self.outcome is Outcome.ACK

    def incoming(self) -> ReceivedMessage:
        """Return the message as FastStream takes it."""
        return ReceivedMessage(self._received, self, no_ack=self.subscription.acks_first)

    def join(self, copy: Delivery) -> None:
        """Settle the copy with the outcome of this one."""
        self._copies += copy._copies

    def ack(self) -> None:
        self.settle(Outcome.ACK)

    def give_back(self) -> None:
        """Have the broker deliver it again, here or elsewhere."""
        self.settle(Outcome.REQUEUE)

    def settle(self, outcome: Outcome) -> None:
        """Settle the message; the first outcome counts."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        for channel, tag in self._copies:
            channel.settle(tag, outcome)
        if self.on_settled is not None:
            self.on_settled(self)

    # As aio-pika calls a channel

    async def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:  # noqa: FBT001, FBT002
        self._settle_up_to(delivery_tag, Outcome.ACK, multiple=multiple)

    async def basic_nack(
        self,
        delivery_tag: int,
        multiple: bool = False,  # noqa: FBT001, FBT002
        requeue: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        self._settle_up_to(delivery_tag, Outcome.REQUEUE if requeue else Outcome.REJECT, multiple=multiple)

    async def basic_reject(self, delivery_tag: int, *, requeue: bool = False) -> None:
        self._settle_up_to(delivery_tag, Outcome.REQUEUE if requeue else Outcome.REJECT, multiple=False)

    def _settle_up_to(self, tag: int, outcome: Outcome, *, multiple: bool) -> None:
        for delivery in self.channel.deliveries_up_to(tag) if multiple else ():
            delivery.settle(outcome)
        self.settle(outcome)

    def __repr__(self) -> str:
        """Name it without its body."""
        return f"<message {self.message_id!r} of queue {self.subscription.queue.name!r}>"
