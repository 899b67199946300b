"""Declares queues and exchanges when the site asks for it, as for a queue of each tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faststream_django.backends.base import NotSent, Session
from faststream_django.conf.entries import BrokerSettings
from faststream_django.conf.setting import Setting
from faststream_django.conf.topology import ExchangeSettings, QueueSettings, read_exchanges, read_queues
from faststream_django.exceptions import (
    BrokerUnavailable,
    DeclarationRefused,
    DeclarationTimeout,
    InvalidBroker,
    InvalidDeclaration,
)
from faststream_django.loop.calls import LoopStalled, LoopStopped

if TYPE_CHECKING:
    from faststream_django.connection.supervisor import Supervisor

__all__ = ["Wanted", "declare", "read_wanted", "told"]

# Seconds between a session that is about to end and the next look for one.
PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be declared on the broker of an alias, and within how many seconds."""

    broker: str
    queues: tuple[QueueSettings, ...]
    exchanges: tuple[ExchangeSettings, ...]
    timeout: float
    passive: bool = False
    """Whether it is only verified that they exist."""


def read_wanted(
    settings: BrokerSettings, queues: Any, exchanges: Any, timeout: float | None, *, passive: bool = False
) -> Wanted:
    """Read what FASTSTREAM's QUEUES and EXCHANGES may hold; raise InvalidDeclaration with the place."""
    broker = settings.alias
    try:
        wanted = Wanted(
            broker,
            read_queues(Setting("queues", () if queues is None else queues)),
            read_exchanges(Setting("exchanges", () if exchanges is None else exchanges)),
            settings.timeout if timeout is None else timeout,
            passive,
        )
    except InvalidBroker as error:
        raise InvalidDeclaration(f"declare() on broker {broker!r}: {error}", broker=broker) from None
    if not (wanted.queues or wanted.exchanges):
        raise InvalidDeclaration(
            f"declare() on broker {broker!r}: name a queue or an exchange", broker=broker
        )
    return wanted


async def declare(wanted: Wanted, supervisor: Supervisor[Session]) -> None:
    """Return once the broker has declared everything, on the session of the moment or on the next."""
    was_asked = False
    refused: dict[str, str] = {}
    try:
        async with asyncio.timeout(wanted.timeout):
            while True:
                session = await _session(wanted, supervisor)
                was_asked = True
                try:
                    refused = await session.declare(wanted.queues, wanted.exchanges, passive=wanted.passive)
                    break
                except NotSent:  # declaring again changes nothing
                    await asyncio.wait([session.closed], timeout=PAUSE)
    except TimeoutError:
        if was_asked:
            raise _no_answer(wanted) from None
        raise BrokerUnavailable(
            f"nothing was declared on broker {wanted.broker!r} within {wanted.timeout:g} s: "
            f"{supervisor.outage or 'there is no connection'}.",
            broker=wanted.broker,
        ) from None
    if refused:
        listed = "; ".join(f"{what}: {reason}" for what, reason in refused.items())
        raise DeclarationRefused(
            f"not declared on broker {wanted.broker!r}: {listed}.", broker=wanted.broker, reasons=refused
        )


@contextmanager
def told(wanted: Wanted) -> Iterator[None]:
    """Tell a caller what it means that the loop thread did not answer."""
    try:
        yield
    except (LoopStopped, LoopStalled) as error:
        raise _no_answer(wanted, f" ({error})") from None


def _no_answer(wanted: Wanted, why: str = "") -> DeclarationTimeout:
    return DeclarationTimeout(
        f"broker {wanted.broker!r} did not answer every declaration within {wanted.timeout:g} s{why}: some "
        "may be declared. It is safe to declare them again.",
        broker=wanted.broker,
    )


async def _session(wanted: Wanted, supervisor: Supervisor[Session]) -> Session:
    answer: asyncio.Future[Session | BrokerUnavailable] = asyncio.get_running_loop().create_future()

    def note(session: Session | BrokerUnavailable) -> None:
        if not answer.done():
            answer.set_result(session)

    supervisor.request_session(answer, wanted.timeout, note)
    try:
        session = await answer
    finally:
        supervisor.withdraw_request(answer)
    if isinstance(session, BrokerUnavailable):
        text = f"nothing was declared on broker {wanted.broker!r}: {session}."
        raise type(session)(text, broker=wanted.broker)
    return session
