"""Nothing is left behind by many publishes: no memory, no task, no connection, no file."""

import asyncio
import gc
import tracemalloc

import pytest

from faststream_django.exceptions import MessageUnroutable
from faststream_django.loop import loop_thread
from faststream_django.messages import Message


@pytest.mark.timeout(600)  # tracemalloc is slow, and more so beside coverage
def test_memory_stays_flat_over_50_000_publishes(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())
    tracemalloc.start()
    one_by_one(connection, queue, 1_000)
    bulk(connection, queue, 9_000)
    before = traced()

    one_by_one(connection, queue, 4_000)
    bulk(connection, queue, 36_000)
    after = traced()

    tracemalloc.stop()
    assert after - before < 800_000  # 20 bytes for each publish: less than any object
    assert len(rabbitmq.connections()) == 1


def test_failed_publishes_leave_no_task(connect, rabbitmq, queue, unreachable_port):
    away = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/")
    connection = connect(rabbitmq.url())
    connection.send(Message.encode(b"x", queue))
    loop_thread.run(try_to_send, away, timeout=5)
    before = loop_thread.run(count_tasks, timeout=5)

    for _ in range(20):
        loop_thread.run(try_to_send, away, timeout=5)
        loop_thread.run(try_to_send_unroutable, connection, timeout=5)

    assert loop_thread.run(count_tasks, timeout=5) == before


def test_attempts_at_a_mute_server_close_their_sockets(connect, counting_port):
    connection = connect(counting_port.url, connect_timeout=0.1)

    connection.start()
    counting_port.wait_for(4)
    connection.stop()

    counting_port.wait_for_goodbyes()


async def count_tasks():
    return len(asyncio.all_tasks())


async def try_to_send(connection):
    try:
        await connection.asend(Message.encode(b"x", "orders"), timeout=0.01)
    except Exception:
        return


async def try_to_send_unroutable(connection):
    try:
        await connection.asend(Message.encode(b"x", "no-such-queue"))
    except MessageUnroutable:
        return


def one_by_one(connection, queue, count):
    message = Message.encode(b"x", queue)
    for _ in range(count):
        connection.send(message)


def bulk(connection, queue, count):
    connection.send_many(Message.encode(b"x", queue) for _ in range(count))


def traced():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
