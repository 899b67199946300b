"""What our connection and channel do that aiormq's own do not."""

import asyncio
import time

import pytest
from aiormq.exceptions import ChannelClosed, ChannelInvalidStateError

from faststream_django.backends.rabbit import connection as rabbit_connection
from faststream_django.backends.rabbit.connection import RabbitConnection, fits_wire, make_wire
from faststream_django.backends.rabbit.session import RabbitSession
from faststream_django.backends.rabbit.topology import Topology
from faststream_django.conf import BrokerSettings


def test_channel_that_the_broker_closes_leaves_the_connection_alone(rabbitmq):
    """aiormq's own writes on after channel.close-ok: the broker ends the connection in most rounds."""

    async def publish_to_missing_exchange(channel):
        publishes = (channel.basic_publish(b"x" * 100, exchange="missing") for _ in range(300))
        return await asyncio.gather(*publishes, return_exceptions=True)

    async def run():
        connection = RabbitConnection(rabbitmq.url())
        await connection.connect()
        outcomes = []
        for _ in range(20):
            outcomes += await publish_to_missing_exchange(await connection.open_channel())
        still_open = not connection.is_closed and await connection.open_channel() is not None
        await connection.close()
        return still_open, {type(outcome) for outcome in outcomes}

    still_open, kinds = asyncio.run(run())

    assert still_open
    assert all(issubclass(kind, ChannelClosed | ChannelInvalidStateError) for kind in kinds)


def test_numbers_of_closed_channels_are_used_again(rabbitmq):
    async def run():
        connection = RabbitConnection(rabbitmq.url())
        await connection.connect()
        connection.connection_tune.channel_max = 3
        for _ in range(10):
            channel = await connection.open_channel()
            await channel.close()
        await connection.close()

    asyncio.run(run())


def test_this_aiormq_has_a_place_for_the_wire(rabbitmq):
    async def run():
        wire = make_wire()
        connection = RabbitConnection(rabbitmq.url(), wire=wire)
        await connection.connect()
        channel = await connection.open_channel()
        seen = wire.may_write(), channel.number, connection.connection_tune.frame_max
        await connection.close()
        return *seen, wire.may_write()

    may_write, number, frame_max, afterwards = asyncio.run(run())

    assert may_write
    assert not afterwards
    assert number > 0
    assert frame_max >= 4096


def test_aiormq_without_a_place_for_it_is_told_to_the_log_once(monkeypatch, caplog):
    class OtherConnection:
        def __init__(self, url, *, context): ...

    monkeypatch.setattr(rabbit_connection, "Connection", OtherConnection)
    fits_wire.cache_clear()
    try:
        wires = [make_wire(), make_wire()]
    finally:
        fits_wire.cache_clear()

    assert wires == [None, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "has no place for the fast lane" in caplog.text


@pytest.mark.parametrize("has_wire", [True, False])
def test_session_knows_when_it_last_heard_from_the_peer(rabbitmq, has_wire):
    async def run():
        settings = BrokerSettings(urls=(rabbitmq.url(),), backend="")
        connection = RabbitConnection(rabbitmq.url(), wire=make_wire() if has_wire else None)
        await connection.connect()
        session = RabbitSession(connection, Topology(settings), 3.0)
        before = time.monotonic()
        await connection.open_channel()
        heard_at, after = session.heard_at, time.monotonic()
        await session.close()
        return before, heard_at, after

    before, heard_at, after = asyncio.run(run())

    assert before <= heard_at <= after if has_wire else heard_at == 0.0
