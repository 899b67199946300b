"""What the readers of other clients find in the headers."""

import asyncio
from typing import Annotated

import kombu
import pika
import pytest
from aio_pika import connect
from faststream import Context
from faststream.rabbit import RabbitBroker, RabbitQueue

from faststream_django.backends.memory.server import MemoryServer
from faststream_django.backends.rabbit import dialing
from faststream_django.backends.rabbit.properties import amqp_properties
from faststream_django.messages import Message

HEADERS = {
    "moment": 1_700_000_000.123456,
    "large": 1e300,
    "nested": [0.1, {"deep": [0.1, b"\xff"]}],
    "signature": b"\xff\x00\xfe",
}


def by_pika(url, queue):
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        _, properties, _ = connection.channel().basic_get(queue, auto_ack=True)
        return properties.headers


def by_kombu(url, queue):
    with kombu.Connection(url) as connection:
        return connection.default_channel.basic_get(queue, no_ack=True).headers


def by_aio_pika(url, queue):
    async def read():
        async with await connect(url) as connection:
            message = await (await (await connection.channel()).get_queue(queue)).get(no_ack=True)
            return message.headers

    return asyncio.run(read())


def by_faststream(url, queue):
    async def read():
        broker = RabbitBroker(url, logger=None)
        found = asyncio.get_running_loop().create_future()

        @broker.subscriber(RabbitQueue(queue, declare=False))
        async def handle(headers: Annotated[dict, Context("message.headers")]):
            found.set_result(headers)

        await broker.start()
        try:
            return await asyncio.wait_for(found, 20)
        finally:
            await broker.stop()

    return asyncio.run(read())


@pytest.mark.parametrize("lane", ["wire", "without-wire"])
@pytest.mark.parametrize("read", [by_kombu, by_aio_pika, by_faststream])
def test_doubles_and_bytes_arrive(rabbitmq, queue, connect, monkeypatch, read, lane):
    if lane == "without-wire":  # as with an aiormq that has no place for one
        monkeypatch.setattr(dialing, "make_wire", lambda: None)
    connect(rabbitmq.url()).send(Message.encode({}, queue, headers=HEADERS))

    headers = read(rabbitmq.url(), queue)

    assert {name: headers[name] for name in HEADERS} == HEADERS


def test_pika_finds_the_bytes_and_makes_an_int_of_every_float(rabbitmq, queue, connect):
    """Of one in single precision too (seen in pika 1.4.4); docs/reference/api.md says so."""
    connect(rabbitmq.url()).send(Message.encode({}, queue, headers=HEADERS))

    headers = by_pika(rabbitmq.url(), queue)

    assert headers["signature"] == HEADERS["signature"]
    assert headers["moment"] == int(HEADERS["moment"])


def test_dead_letter_of_the_embedded_broker_keeps_doubles_and_bytes():
    server = MemoryServer.get("memory://header-types")
    server.declare_queue("dead", arguments={})
    server.declare_queue(
        "orders", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    )
    message = Message.encode({}, "orders", headers=HEADERS, expiration=0)
    server.publish("", "orders", amqp_properties(message), message.body)

    assert server.count("orders") == 0
    [dead] = server.drain("dead")
    assert {name: dead.headers[name] for name in HEADERS} == HEADERS
