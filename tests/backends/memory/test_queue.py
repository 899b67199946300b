import logging
from time import monotonic

import pytest
from pamqp.commands import Basic

from faststream_django.backends.memory.queue import UNCONSUMED_LIMIT
from faststream_django.backends.memory.refusals import ServerRefused
from tests.backends.memory.sessions import bodies, put

# Limits


def test_full_queue_drops_its_oldest_message(server):
    server.declare_queue("q", arguments={"x-max-length": 2})

    for body in (b"1", b"2", b"3"):
        put(server, "q", body)

    assert bodies(server, "q") == [b"2", b"3"]


def test_full_queue_with_reject_publish_refuses(server):
    server.declare_queue("q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    put(server, "q", b"1")

    assert put(server, "q", b"2") == "rejected"
    assert bodies(server, "q") == [b"1"]


def test_limit_in_bytes_counts_bodies(server):
    server.declare_queue("q", arguments={"x-max-length-bytes": 5})

    for body in (b"111", b"222", b"3"):
        put(server, "q", body)

    assert bodies(server, "q") == [b"222", b"3"]


def test_full_queue_keeps_other_copies_of_a_rejected_message(server):
    server.declare_exchange("e", "fanout")
    full = {"x-max-length": 0, "x-overflow": "reject-publish"}
    server.bind(server.declare_queue("full", arguments=full), "e")
    server.bind(server.declare_queue("free"), "e")

    assert server.publish("e", "", Basic.Properties(), b"x") == "rejected"
    assert server.count("free") == 1


def test_queue_without_consumer_keeps_its_newest_messages_and_warns_once(server, caplog):
    server.declare_queue("q")

    for number in range(UNCONSUMED_LIMIT + 5):
        put(server, "q", str(number).encode())

    kept = bodies(server, "q")
    assert len(kept) == UNCONSUMED_LIMIT
    assert kept[0] == b"5"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "queue 'q'" in warnings[0].getMessage()


def test_expired_message_is_not_delivered(server):
    server.declare_queue("q")
    put(server, "q", b"gone", expiration="0")
    put(server, "q", b"stays", expiration="60000")

    assert bodies(server, "q") == [b"stays"]


def test_queue_ttl_applies_to_messages_without_expiration(server):
    server.declare_queue("q", arguments={"x-message-ttl": 0})

    put(server, "q")

    assert server.count("q") == 0


# Queues that expire


@pytest.mark.parametrize("milliseconds", [0, -1, "5", 1.5, True, 2**32])
def test_expiry_that_is_no_number_of_milliseconds_is_refused(server, milliseconds):
    with pytest.raises(ServerRefused, match="invalid arg 'x-expires' for queue 'q'"):
        server.declare_queue("q", arguments={"x-expires": milliseconds})


def test_queue_in_use_does_not_expire(server, monkeypatch):
    now = monotonic()
    monkeypatch.setattr("faststream_django.backends.memory.queue.time.monotonic", lambda: now)
    server.declare_exchange("dlx", "fanout")
    server.bind(server.declare_queue("dead"), "dlx")
    arguments = {"x-expires": 1000, "x-dead-letter-exchange": "dlx"}
    queue = server.declare_queue("q", arguments=arguments)

    now += 0.9
    server.declare_queue("q", arguments=arguments)
    now += 0.9
    server.drain("q")
    now += 0.9
    consumer = Holder()
    queue.add_consumer(consumer)
    now += 9
    assert server.queue("q") is queue
    queue.remove_consumer(consumer)
    now += 0.9
    server.publish("", "q", Basic.Properties(), b"x")
    assert server.count("q") == 1
    now += 0.1

    assert server.publish("", "q", Basic.Properties(), b"x") == "returned"
    assert server.count("dead") == 0
    assert server.declare_queue("q", arguments=arguments) is not queue


class Holder:
    def has_room(self):
        return False

    def take(self, envelope):
        raise AssertionError


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_copies_to_what_is_no_list_are_refused(server, header):
    server.declare_queue("q")

    with pytest.raises(ServerRefused, match="unacceptable_type_in_header"):
        server.publish("", "q", Basic.Properties(headers={header: "q"}), b"x")
