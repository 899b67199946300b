"""Where the outbox comes in: stores messages in the transaction of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from faststream_django.conf.setting import shown
from faststream_django.exceptions import InvalidMessage, OutboxNotReady
from faststream_django.messages.properties import kind_of, short_text
from faststream_django.publishing.outgoing import Outgoing

__all__ = ["Store", "install", "installed_store", "read_order"]


class Store(Protocol):
    """What the app faststream_django.outbox provides."""

    def __call__(
        self,
        outgoing: Sequence[Outgoing],
        using: str | None,
        *,
        ordering_key: str = "",
        deliver_at: datetime | None = None,
        for_relay: bool = False,
    ) -> None:
        """Insert the messages into the database `using`, in the transaction that is open there, if any.

        With `for_relay` this process does not send them itself, and without `using` the routers choose.
        """


_store: Store | None = None


def install(store: Store) -> None:
    """Have messages stored by this function."""
    global _store
    _store = store


def installed_store(alias: str) -> Store:
    """Return what stores the messages for a broker; raise OutboxNotReady if the app is not installed."""
    if _store is None:
        raise OutboxNotReady(
            f"FASTSTREAM[{shown(alias)}] stores messages in the outbox, whose app is not "
            "installed: add 'faststream_django.outbox' to INSTALLED_APPS, then run 'manage.py migrate'."
        )
    return _store


def read_order(ordering_key: Any, deliver_at: Any, broker: str, *, is_durable: bool) -> str:
    """Check what says when a message may leave; return the key, empty for none."""
    try:
        key = "" if ordering_key is None else short_text("ordering_key", ordering_key)
        if deliver_at is not None:
            _refuse_moment(deliver_at, key, is_durable=is_durable)
    except InvalidMessage as error:
        error.broker = broker
        error.args = (f"The message for broker {broker!r} was refused: {error}.",)
        raise
    return key


def _refuse_moment(deliver_at: Any, key: str, *, is_durable: bool) -> None:
    if not isinstance(deliver_at, datetime):
        raise InvalidMessage(f"deliver_at is {kind_of(deliver_at)}; pass an aware datetime")
    if deliver_at.utcoffset() is None:
        raise InvalidMessage("deliver_at is a naive datetime; pass an aware one")
    if key:
        raise InvalidMessage(
            "ordering_key and deliver_at contradict each other: the order of a key is that of the calls; "
            "leave one of them out"
        )
    if not is_durable:
        raise InvalidMessage(
            "deliver_at needs the outbox, where the message waits; set 'ON_COMMIT' to 'outbox' for it"
        )
