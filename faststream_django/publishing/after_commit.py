"""The verbs for what a transaction is to publish once it has committed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from asgiref.sync import sync_to_async

from faststream_django.conf.entries import broker_settings
from faststream_django.connection.bulk import Item
from faststream_django.messages.message import Message
from faststream_django.publishing.announcements import aannounce_chunk
from faststream_django.publishing.committed import report, send_committed
from faststream_django.publishing.durable import installed_store, read_order
from faststream_django.publishing.on_commit import defer
from faststream_django.publishing.outgoing import Outgoing, PublishOptions, encode, encode_all, spelled_out
from faststream_django.publishing.verbs import refuse_foreign_loop, refuse_in_event_loop
from faststream_django.registry import brokers

if TYPE_CHECKING:
    from faststream.rabbit import RabbitExchange, RabbitQueue

__all__ = [
    "apublish_many_on_commit",
    "apublish_on_commit",
    "publish_many_on_commit",
    "publish_on_commit",
]


@spelled_out
def publish_on_commit(
    message: Any,
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    *,
    using: str | None = None,
    robust: bool = True,
    ordering_key: str | None = None,
    deliver_at: datetime | None = None,
    **options: Unpack[PublishOptions],
) -> str:
    """Publish a message after the transaction of the database `using` commits; return its id at once.

    Nothing is sent on rollback; rolling back a savepoint drops exactly its messages. The payload is encoded
    and validated immediately, so InvalidMessage is raised inside the transaction. The other options are
    those of publish().

    With ``"ON_COMMIT": "outbox"`` the message is a row of the transaction: once that has committed, the
    message is delivered at least once, whatever becomes of this process or the broker. Raises
    OutboxNotReady if the database has no table for it; ``robust`` changes nothing, as no message is lost.
    Messages with the same ``ordering_key`` (a str of at most 255 bytes) are delivered in the order of the
    calls, over all processes; ``deliver_at``, an aware datetime, is the moment before which the message
    does not leave.

    With ``"ON_COMMIT": "memory"``, the default, this process sends the messages of a transaction after the
    commit, together and in the order of the calls, and outside a transaction at once. If delivery
    fails, the data has already been committed: with ``robust`` the loss is logged at ERROR and sent to the
    signal message_failed; otherwise the error is raised, and later callbacks of the transaction do not run.
    ON_FAILURE is about publish() alone.
    """
    refuse_in_event_loop("publish_on_commit", "apublish_on_commit")
    outgoing = encode(message, queue, exchange, options)
    _defer_or_send([outgoing], using, robust, ordering_key, deliver_at)
    return outgoing.message.message_id


@spelled_out
async def apublish_on_commit(
    message: Any,
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    *,
    using: str | None = None,
    robust: bool = True,
    ordering_key: str | None = None,
    deliver_at: datetime | None = None,
    **options: Unpack[PublishOptions],
) -> str:
    """See publish_on_commit().

    The transaction is that of asgiref's thread for synchronous code, where ``sync_to_async`` runs the
    ORM. Django has no asynchronous transactions, so this is mainly a safe way to publish at once in code
    that may run inside or outside a transaction.
    """
    refuse_foreign_loop("apublish_on_commit", "publish_on_commit")
    outgoing = encode(message, queue, exchange, options)
    deferred = await sync_to_async(_defer)([outgoing], using, robust, ordering_key, deliver_at)
    if not deferred:
        result = await brokers[outgoing.broker].asend_many(
            _aonly(outgoing.message), outgoing.timeout, aannounce_chunk
        )
        report([outgoing], result, robust=robust)
    return outgoing.message.message_id


@spelled_out
def publish_many_on_commit(
    messages: Iterable[Any],
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    *,
    using: str | None = None,
    robust: bool = True,
    ordering_key: str | None = None,
    deliver_at: datetime | None = None,
    **options: Unpack[PublishOptions],
) -> list[str]:
    """Publish messages after the transaction of the database `using` commits; return their ids at once.

    As publish_on_commit() for each of them, and cheaper: with ``"ON_COMMIT": "outbox"`` they are stored by
    one INSERT. All are encoded before any is stored: InvalidMessage means that none will be sent. They are
    held in memory meanwhile.
    """
    refuse_in_event_loop("publish_many_on_commit", "apublish_many_on_commit")
    outgoing = encode_all(messages, queue, exchange, options)
    _defer_or_send(outgoing, using, robust, ordering_key, deliver_at)
    return [each.message.message_id for each in outgoing]


@spelled_out
async def apublish_many_on_commit(
    messages: Iterable[Any],
    queue: str | RabbitQueue = "",
    exchange: str | RabbitExchange | None = None,
    *,
    using: str | None = None,
    robust: bool = True,
    ordering_key: str | None = None,
    deliver_at: datetime | None = None,
    **options: Unpack[PublishOptions],
) -> list[str]:
    """See publish_many_on_commit() and apublish_on_commit()."""
    refuse_foreign_loop("apublish_many_on_commit", "publish_many_on_commit")
    outgoing = encode_all(messages, queue, exchange, options)
    await sync_to_async(_defer_or_send)(outgoing, using, robust, ordering_key, deliver_at)
    return [each.message.message_id for each in outgoing]


def _defer_or_send(
    outgoing: list[Outgoing],
    using: str | None,
    robust: bool,  # noqa: FBT001
    ordering_key: str | None,
    deliver_at: datetime | None,
) -> None:
    if not _defer(outgoing, using, robust, ordering_key, deliver_at):
        send_committed(outgoing, robust)


def _defer(
    outgoing: list[Outgoing],
    using: str | None,
    robust: bool,  # noqa: FBT001
    ordering_key: str | None,
    deliver_at: datetime | None,
) -> bool:
    """Have the messages, all for one broker, sent later; return False if they are to be sent now."""
    if not outgoing:
        return True
    alias = outgoing[0].broker
    is_durable = broker_settings(alias).on_commit == "outbox"
    key = read_order(ordering_key, deliver_at, alias, is_durable=is_durable)
    if is_durable:
        installed_store(alias)(outgoing, using, ordering_key=key, deliver_at=deliver_at)
        return True
    return all(defer(each, using, robust=robust, send=send_committed) for each in outgoing)


async def _aonly(message: Message) -> AsyncIterator[Item]:
    yield message
