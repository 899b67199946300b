"""The queues of RabbitMQ for an operator: each channel moves one message at a time, in a transaction.

What is published and what is acknowledged take effect together with tx.commit or, if the client dies before,
not at all. One thing a transaction does not do: where the target refuses (it is full, or gone), the broker
acknowledges all the same, and tells afterwards. With one message in each it is known which one that was. Of a
quorum queue that is full it does not even tell (RabbitMQ 3.10: tx.commit-ok, and 191 of 300 messages were
gone), so transactions are for classic queues.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiormq.abc import AbstractChannel
from aiormq.exceptions import (
    AMQPError,
    ChannelClosed,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    DeliveryError,
    InvalidFrameError,
)
from pamqp.commands import Basic, Channel

from faststream_django.backends.operating import (
    NotMoved,
    OperationRefused,
    OperatorChannel,
    OperatorSession,
    QueuedMessage,
    Unwritable,
)
from faststream_django.backends.rabbit.connection import RabbitChannel, RabbitConnection
from faststream_django.backends.rabbit.errors import words
from faststream_django.backends.rabbit.properties import Properties
from faststream_django.backends.rabbit.protocol import TX_COMMIT
from faststream_django.backends.rabbit.topology import declarations
from faststream_django.conf.topology import QueueSettings
from faststream_django.exceptions import BrokerUnavailable

__all__ = ["RabbitOperatorSession"]

COMMIT_TIMEOUT = 30.0
"""Seconds to wait for a commit at least: a message whose outcome is unknown may be there twice afterwards."""
CLOSE_TIMEOUT = 1.0


class RabbitOperatorSession(OperatorSession):
    """A connection to one node."""

    def __init__(self, connection: RabbitConnection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._asker: RabbitChannel | None = None
        self._publisher: AbstractChannel | None = None

    async def count(self, queue: str) -> int | None:
        async with self._asking_channel() as channel:
            try:
                declared = await channel.queue_declare(queue, passive=True)
            except ChannelNotFoundEntity:
                return None
        return declared.message_count or 0

    async def moves_atomically(self, queue: QueueSettings) -> bool:
        if queue.type != "classic":
            return False
        declaration = next(declarations((queue,), ()))
        try:
            async with self._asking_channel() as channel:
                await declaration.send(channel)
        except OperationRefused:  # it is another than we think
            return False
        return True

    async def open_channel(self) -> OperatorChannel:
        async with _answers_within(self._timeout):
            channel = await self._connection.open_plain_channel(_TakingChannel)
        return RabbitOperatorChannel(self._connection, channel, self._timeout)

    async def put(self, message: QueuedMessage, queue: str) -> None:
        async with _answers_within(self._timeout):
            if self._publisher is None or self._publisher.is_closed:
                self._publisher = await self._connection.open_channel()
            await self._publisher.basic_publish(
                message.body, routing_key=queue, properties=_as_sent(message.properties), mandatory=True
            )

    async def close(self) -> None:
        await _close(self._connection)

    @asynccontextmanager
    async def _asking_channel(self) -> AsyncIterator[RabbitChannel]:
        """Have a channel for a question; the broker closes it for an answer that is no."""
        async with _answers_within(self._timeout):
            if self._asker is None or self._asker.is_closed:
                self._asker = await self._connection.open_plain_channel(RabbitChannel)
            yield self._asker


class RabbitOperatorChannel(OperatorChannel):
    """A channel, with transactions from when the first message is moved."""

    def __init__(self, connection: RabbitConnection, channel: _TakingChannel, timeout: float) -> None:
        self._connection = connection
        self._channel = channel
        self._timeout = timeout
        self._is_transactional = False

    async def take(self, queue: str) -> QueuedMessage | None:
        async with _answers_within(self._timeout):
            got = await self._channel.basic_get(queue)
        if not isinstance(got.delivery, Basic.GetOk):
            return None
        return QueuedMessage(
            body=got.body,
            properties=got.header.properties,
            exchange=got.exchange or "",
            routing_key=got.routing_key or "",
            handle=got.delivery_tag,
        )

    async def move(self, message: QueuedMessage, queue: str, properties: Any) -> None:
        channel = self._channel
        _as_sent(message.properties)  # or it could not be put back
        async with _answers_within(self._timeout):
            if not self._is_transactional:
                await channel.tx_select()
                self._is_transactional = True
            await channel.basic_publish(
                message.body, routing_key=queue, properties=_as_sent(properties), mandatory=True, wait=False
            )
            await channel.basic_ack(message.handle, wait=False)
        timeout = max(self._timeout, COMMIT_TIMEOUT)
        try:
            async with _answers_within(timeout):
                await channel.tx_commit()
        except OperationRefused as error:
            # For what is wrong before the commit nothing was acknowledged.
            if not channel.is_closed_for_commit:
                raise
            raise NotMoved(f"queue {queue!r} refused it: it is full ({error})") from error
        except _NoAnswer as error:
            if self._connection.is_blocked:  # the broker reads it later, or never
                raise
            raise NotMoved(f"queue {queue!r}: {error}", is_uncertain=True) from error
        if channel.returned is not None:
            raise NotMoved(f"queue {queue!r} is gone ({channel.returned})")

    async def delete(self, *messages: QueuedMessage) -> None:
        async with _answers_within(self._timeout):
            for message in messages:
                await self._channel.basic_ack(message.handle, wait=False)
        if self._is_transactional:
            await self.settle()

    async def settle(self) -> None:
        async with _answers_within(max(self._timeout, COMMIT_TIMEOUT)):
            if self._is_transactional:
                await self._channel.tx_commit()
            else:  # a question whose answer does not matter: the channel takes one thing after the other
                await self._channel.basic_qos()

    async def close(self) -> None:
        await _close(self._channel)


class _TakingChannel(RabbitChannel):
    """A channel that knows what the broker said of the message in its transaction."""

    returned: str | None = None
    """Why the broker returned the message."""
    is_closed_for_commit = False

    async def _on_return_frame(self, frame: Basic.Return) -> None:
        # aiormq knows messages of confirms only.
        header: Any = await self._get_frame()
        await self._read_content(frame, header)
        self.returned = frame.reply_text

    async def _on_close_frame(self, frame: Channel.Close) -> None:
        self.is_closed_for_commit = (frame.class_id, frame.method_id) == TX_COMMIT
        await super()._on_close_frame(frame)


class _NoAnswer(BrokerUnavailable):
    """The connection lives, as far as anybody knows, and the broker says nothing."""


@asynccontextmanager
async def _answers_within(timeout: float) -> AsyncIterator[None]:
    """Translate what ends an operation."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError as error:
        raise _NoAnswer(f"the broker did not answer within {timeout:g} s") from error
    except ChannelClosed as error:
        raise OperationRefused(words(error)) from error
    except DeliveryError as error:
        raise OperationRefused(words(error)) from error
    except ValueError as error:  # a name that the driver does not write
        raise OperationRefused(str(error)) from error
    except InvalidFrameError as error:
        raise BrokerUnavailable(
            "the AMQP driver cannot read a message, which stays where it is and bars the way to those behind "
            f"it: take it out with another tool ({words(error)})"
        ) from error
    except (AMQPError, ChannelInvalidStateError, OSError) as error:
        raise BrokerUnavailable(
            f"the connection was lost ({type(error).__name__}: {words(error)})"
        ) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # aiormq reports a lost connection as a cancellation, too.
        raise BrokerUnavailable("the connection was lost") from error


async def _close(each: Any) -> None:
    try:
        await asyncio.wait_for(each.close(), CLOSE_TIMEOUT)
    except Exception:  # noqa: BLE001 - it is thrown away
        return


def _as_sent(properties: Any) -> Properties:
    """Return properties as they came, floats in headers in double precision included; raise Unwritable."""
    # The cluster id is RabbitMQ's own; and what is not persistent is transient, whatever its mode is.
    names = (name for name in Basic.Properties.__slots__ if name not in {"cluster_id", "delivery_mode"})
    given = {name: getattr(properties, name) for name in names}
    try:
        sent = Properties(delivery_mode=2 if properties.delivery_mode == 2 else 1, **given)
        sent.marshal()
    except (ValueError, TypeError) as error:
        raise Unwritable(f"its properties cannot be written again: {error}") from error
    return sent
