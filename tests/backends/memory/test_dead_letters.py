import asyncio

from faststream_django.backends.memory.connection import attach
from faststream_django.backends.memory.server import MemoryServer
from tests.backends.memory.sessions import dead_letter_queue, put, rabbit_broker


def test_expired_message_is_dead_lettered_with_its_history(server):
    dead_letter_queue(server)

    put(server, "q", b"x", expiration="0", headers={"tenant": "a"})
    server.count("q")
    [message] = server.drain("dead")

    assert message.body == b"x"
    assert message.exchange == "dlx"
    assert message.routing_key == "q"
    assert message.expiration is None
    assert message.headers["tenant"] == "a"
    assert message.headers["x-first-death-queue"] == "q"
    assert message.headers["x-first-death-reason"] == "expired"
    [death] = message.headers["x-death"]
    assert death["count"] == 1
    assert death["reason"] == "expired"
    assert death["queue"] == "q"
    assert death["exchange"] == ""
    assert death["routing-keys"] == ["q"]
    assert death["original-expiration"] == "0"


def test_dropped_message_is_dead_lettered_under_the_routing_key_of_the_queue(server):
    dead_letter_queue(server, **{"x-max-length": 1, "x-dead-letter-routing-key": "late"})

    put(server, "q", b"1")
    put(server, "q", b"2")
    [message] = server.drain("dead")

    assert (message.body, message.routing_key) == (b"1", "late")
    assert message.headers["x-first-death-reason"] == "maxlen"


def test_rejected_publish_can_be_dead_lettered_too(server):
    dead_letter_queue(server, **{"x-max-length": 0, "x-overflow": "reject-publish-dlx"})

    assert put(server, "q") == "rejected"
    assert server.count("dead") == 1


def test_dead_letter_for_a_missing_exchange_is_dropped(server):
    server.declare_queue("q", arguments={"x-dead-letter-exchange": "no", "x-message-ttl": 0})

    assert put(server, "q") == "confirmed"
    assert server.count("q") == 0


def test_dead_letters_do_not_go_round_by_themselves(server):
    arguments = {"x-dead-letter-exchange": "", "x-message-ttl": 0}
    server.declare_queue("a", arguments=arguments | {"x-dead-letter-routing-key": "b"})
    server.declare_queue("b", arguments=arguments | {"x-dead-letter-routing-key": "a"})

    put(server, "a")

    assert (server.count("a"), server.count("b")) == (0, 0)


def test_expired_message_is_dead_lettered_although_nobody_asks():
    async def wait_for_dead_letter():
        server, broker = MemoryServer(), rabbit_broker()
        arrived = asyncio.Event()

        @broker.subscriber("work")
        async def work(body):
            arrived.set()

        await attach(server, broker)
        delay = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"}
        server.declare_queue("delay", arguments=delay | {"x-message-ttl": 20})
        put(server, "delay")
        async with asyncio.timeout(5):
            await arrived.wait()
        await broker.stop()

    asyncio.run(wait_for_dead_letter())
