"""What a transport must do.

A `Backend` belongs to one alias and makes a `Session` for each connection. A session is disposable:
it serves until it breaks, then the connection throws it away and asks the backend for the next one.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from faststream_django.exceptions import BrokerRefused, PublishError, PublishTimeout

if TYPE_CHECKING:
    from faststream_django.backends.operating import OperatorSession
    from faststream_django.backends.turns import Turn
    from faststream_django.conf.entries import BrokerSettings
    from faststream_django.conf.topology import ExchangeSettings, QueueSettings
    from faststream_django.messages.message import Message
    from faststream_django.messages.reply import Reply

__all__ = [
    "Backend",
    "Connector",
    "Link",
    "NotSent",
    "Publication",
    "Request",
    "Session",
    "Settled",
    "Transmit",
    "Verdict",
]

Transmit = Callable[["Message"], Awaitable[None]]


class NotSent(Exception):
    """The session ended before the message was written: the next session may try it."""


Verdict = PublishError | NotSent | None
Settled = Callable[["Publication", Verdict], None]


@dataclass(slots=True, eq=False)
class Publication:
    """One message on its way, and what is known about it at any moment.

    Written on the loop thread, read by the caller's thread when its deadline passes.
    """

    # The caller's, who sets it once.
    message: Message
    broker: str
    timeout: float = 0.0
    """What its caller gave, in seconds."""
    caller: object = None
    """Whose messages keep their order where middlewares look at them; None for a thread, which waits."""
    is_processed: bool = False
    """It has been through the middlewares before: it is sent as it is."""
    given_up: bool = False
    """Nobody waits for it any more: its first frame is not written."""

    # The courier's, and the bulk's.
    on_done: Callable[[Publication, BaseException | None], None] | None = None
    """Told once what came of it; None before it is on its way and after."""
    confirmed: bool = False
    """The broker took responsibility for it."""
    in_doubt: bool = False
    """An earlier attempt of a middleware ended without certainty; stays True whatever follows."""
    posted_at: float = 0.0
    """When a session got it, on the clock of time.monotonic(); 0 before."""
    turn: Turn | None = None
    """Its place among the messages of its caller, until it has left."""
    index: int = 0
    """Its place among the messages of a publish of many."""
    is_of_bulk: bool = False
    """It has one of the places in flight that are for publishes of many."""

    # The session's that has it now.
    sent_as: Message = field(init=False)
    """What the middlewares made of the message."""
    maybe_sent: bool = False
    """Its frames may have reached the broker: without a verdict the outcome is unknown."""
    on_settled: Settled | None = None
    """Told the verdict of the session."""
    channel: Any = None
    """Where the session has written it, and the delivery tag that it has there."""
    tag: int = 0

    def __post_init__(self) -> None:
        self.sent_as = self.message

    @property
    def is_done(self) -> bool:
        """Whether its caller has what it waits for."""
        return self.confirmed

    @property
    def is_uncertain(self) -> bool:
        """Whether the broker may have it, as far as no verdict says otherwise."""
        return self.maybe_sent or self.in_doubt

    def begin_sending(self) -> None:
        """Note that the first frame is about to be written; raise PublishTimeout if nobody waits for it.

        Called on the loop thread, while give_up() may run in the caller's. Each writes its own flag and
        then reads the other's, so that, whichever comes first, at least one of them sees both flags set:

        - only this thread does: it does not write, and the caller says truly "not sent";
        - only the caller does: the message is written, and the caller says truly "unknown";
        - both do: it is not written, and the caller says "unknown" of what was not sent.

        So a caller may be told "unknown" of a message that was not sent, but never "not sent" of one
        that was. Turning the two lines round, here or there, would allow that.
        """
        self.maybe_sent = True
        if self.given_up:
            self.maybe_sent = False  # the caller, who may have read True, has gone
            raise PublishTimeout("the caller has given up")

    def give_up(self) -> bool:
        """Keep the message from being sent; return False if it is too late. The proof is at begin_sending().

        Called in the caller's thread when the loop does not answer. A message that a caller gave up is
        never handed over afterwards, also not to a later session.
        """
        self.given_up = True
        return not self.is_uncertain


@dataclass(slots=True, eq=False)
class Request(Publication):
    """A message whose caller waits for the reply."""

    is_routed: bool = False
    """The broker has confirmed that a queue has it. The reply may come before."""
    reply: Reply | None = None

    @property
    def is_done(self) -> bool:
        return self.confirmed and self.reply is not None


class Link(ABC):
    """One connection to one node, for publishing or for consuming."""

    closed: asyncio.Future[str]
    """Done when the connection is gone; its result says why, without a secret."""

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has said that it takes no messages (memory or disk alarm)."""
        return False

    @property
    def heard_at(self) -> float:
        """When the last bytes came from the peer, on the clock of time.monotonic(); 0.0 where unknown."""
        return 0.0

    def abort(self, reason: str) -> None:
        """End the connection at once, without a word to the peer; what is in flight fails."""
        if not self.closed.done():
            self.closed.set_result(reason)

    @abstractmethod
    async def close(self) -> None:
        """Close cleanly. The caller limits the time and abandons the connection when it passes."""


LinkT = TypeVar("LinkT", bound=Link)
LinkT_co = TypeVar("LinkT_co", bound=Link, covariant=True)


class Connector(ABC, Generic[LinkT_co]):
    """Makes connections for one alias."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings

    @abstractmethod
    async def connect(self, url: str) -> LinkT_co:
        """Open a connection; raise BrokerUnavailable or BrokerRefused with the reason.

        Called on the loop that uses it; cancelled when the connect timeout passes.
        """


class Session(Link):
    """One connection to one node that publishes."""

    @abstractmethod
    def post(
        self, message: Message, publication: Publication, on_settled: Settled, *, more: bool = False
    ) -> None:
        """Send one message; have `on_settled` called with the verdict. `more`: others follow at once.

        That is None once the broker has confirmed the message, a PublishError, or NotSent if the session
        ended before the message was written. Call `Publication.begin_sending()` before the first frame may
        reach the broker. Keep the order of the calls for each exchange.
        """

    def request(self, message: Message, request: Request, on_settled: Settled) -> None:
        """Send a request; as post(), but the verdict is None once its reply is in `request.reply`.

        What belongs to it is the `correlation_id` of the message, which no other request has.
        """
        raise NotImplementedError(f"{type(self).__name__} has no replies")

    @abstractmethod
    def withdraw(self, publication: Publication) -> None:
        """Forget a message that has no verdict: nobody waits for one, and it is not sent if it was not yet.

        Must do no harm to the other messages of the session.
        """

    def what_holds(self, publication: Publication) -> str:  # noqa: ARG002
        """Tell why a message is not written yet, and the cure; an empty text where nothing special is."""
        return ""

    async def declare(
        self,
        queues: tuple[QueueSettings, ...],
        exchanges: tuple[ExchangeSettings, ...],
        *,
        passive: bool = False,
    ) -> dict[str, str]:
        """Declare them, or verify that they exist if ``passive``.

        Return the reason for each that was refused, or raise NotSent if the session ends.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot declare")


class Backend(Connector[Session]):
    """Makes sessions for one alias, and knows what a message passes through before it is sent."""

    async def operate(self, url: str) -> OperatorSession:  # noqa: ARG002
        """Open a connection for an operator; raise as connect() does."""
        raise BrokerRefused(f"{type(self).__name__} has no way to look into queues")

    @property
    def is_direct(self) -> bool:
        """Whether process() adds nothing: the messages may be sent without it."""
        return False

    @property
    def is_direct_for_requests(self) -> bool:
        """Whether process() adds nothing to a request, nor to its reply."""
        return self.is_direct

    async def process(self, publication: Publication, transmit: Transmit) -> None:
        """Pass the message through the middlewares, the last of which transmits it.

        The reply to a `Request` passes through them too, on its way back; its value is then in the reply.
        """
        await transmit(publication.message)
