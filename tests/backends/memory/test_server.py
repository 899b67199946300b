import os
import threading
from datetime import UTC, datetime

import pytest
from pamqp.commands import Basic

from faststream_django.backends.memory.refusals import ServerRefused
from faststream_django.backends.memory.server import MemoryServer
from tests.backends.memory.sessions import bodies, put

# Declaring


def test_declaring_again_with_the_same_arguments_is_accepted(server):
    first = server.declare_queue("q", arguments={"x-max-length": 5})

    again = server.declare_queue("q", arguments={"x-max-length": 5, "x-queue-type": "classic"})

    assert again is first


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"durable": False}, "inequivalent arg 'durable' for queue 'q' in vhost '/'"),
        ({"arguments": {"x-max-length": 6}}, "inequivalent arg 'x-max-length'"),
        ({"arguments": {"x-queue-type": "quorum"}}, "received 'quorum' but current is 'classic'"),
    ],
)
def test_queue_with_other_arguments_is_refused(server, other, text):
    server.declare_queue("q")

    with pytest.raises(ServerRefused, match="PRECONDITION_FAILED") as refused:
        server.declare_queue("q", **other)

    assert text in str(refused.value)
    assert refused.value.code == 406


def test_exchange_with_another_type_is_refused(server):
    server.declare_exchange("e", "topic")

    with pytest.raises(ServerRefused, match="inequivalent arg 'type' for exchange 'e'"):
        server.declare_exchange("e", "fanout")


def test_exchange_of_an_unknown_type_is_refused(server):
    with pytest.raises(ServerRefused, match="unknown exchange type 'x-delayed-message'"):
        server.declare_exchange("e", "x-delayed-message")


def test_exchange_name_with_reserved_prefix_is_refused(server):
    with pytest.raises(ServerRefused, match="contains reserved prefix 'amq"):
        server.declare_exchange("amq.mine")


@pytest.mark.parametrize("declare", ["declare_queue", "declare_exchange"])
def test_passive_declaration_of_what_is_missing_is_refused(server, declare):
    with pytest.raises(ServerRefused, match=r"NOT_FOUND - no (queue|exchange) 'x' in vhost '/'"):
        getattr(server, declare)("x", passive=True)


def test_passive_declaration_asks_for_no_arguments(server):
    queue = server.declare_queue("q", durable=False, arguments={"x-max-length": 1})

    assert server.declare_queue("q", passive=True) is queue


def test_queue_without_a_name_gets_one(server):
    assert server.declare_queue().name.startswith("amq.gen-")


def test_exclusive_queue_belongs_to_one_connection_and_ends_with_it(server):
    owner = object()
    server.declare_queue("q", exclusive=True, owner=owner)

    with pytest.raises(ServerRefused, match="RESOURCE_LOCKED"):
        server.declare_queue("q", exclusive=True, owner=object())
    server.release(owner)

    with pytest.raises(ServerRefused, match="NOT_FOUND"):
        server.count("q")


def test_auto_delete_exchange_goes_with_its_last_queue(server):
    server.declare_exchange("e", auto_delete=True)
    queue = server.declare_queue("q")
    server.bind(queue, "e")

    server.delete_queue(queue)

    with pytest.raises(ServerRefused, match="NOT_FOUND"):
        server.exchange("e")


# The server of a process


def test_one_server_for_each_name():
    first = MemoryServer.get("memory://first")

    assert MemoryServer.get("memory://first") is first
    assert MemoryServer.get("memory://second") is not first
    assert MemoryServer.get() is MemoryServer.get("memory://")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_child_begins_with_an_empty_server(url):
    server = MemoryServer.get(url)
    server.declare_queue("q")

    child = os.fork()
    if child == 0:
        os._exit(0 if not MemoryServer.get(url)._queues else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert MemoryServer.get(url) is server


def test_drained_message_is_what_was_published(server):
    server.declare_queue("q")
    now = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)

    put(
        server,
        "q",
        b"{}",
        content_type="application/json",
        headers={"a": 1},
        message_id="id",
        correlation_id="cid",
        reply_to="answers",
        expiration="1500",
        priority=3,
        timestamp=now,
        message_type="made",
        delivery_mode=2,
    )
    [message] = server.drain("q")

    assert message.decode() == {}
    assert message.headers == {"a": 1}
    assert (message.message_id, message.correlation_id) == ("id", "cid")
    assert (message.reply_to, message.message_type) == ("answers", "made")
    assert (message.expiration, message.priority, message.persist) == (1.5, 3, True)
    assert message.timestamp == now


def test_readers_do_not_share_headers(server):
    server.declare_exchange("e", "fanout")
    server.bind(server.declare_queue("a"), "e")
    server.bind(server.declare_queue("b"), "e")
    headers = {"list": [1]}

    server.publish("e", "", Basic.Properties(headers=headers), b"x")
    headers["list"].append(2)
    server.drain("a")[0].headers["list"].append(3)

    assert server.drain("b")[0].headers == {"list": [1]}


def test_purge_empties_every_queue(server):
    server.declare_queue("q")
    put(server, "q")

    server.purge()

    assert server.count("q") == 0


def test_inspection_is_safe_while_another_thread_publishes(server):
    server.declare_queue("q")
    total, drained = 3000, []

    def publish():
        for number in range(total):
            put(server, "q", str(number).encode())
            while server.count("q") > 500:
                pass

    thread = threading.Thread(target=publish)
    thread.start()
    while thread.is_alive() or server.count("q"):
        drained += bodies(server, "q")
    thread.join()

    assert drained == [str(number).encode() for number in range(total)]
