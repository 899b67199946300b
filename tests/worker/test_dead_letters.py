"""Handing a message over to a queue that is full, missing, refused or away: nothing is lost, others go on."""

import time

import pytest
from faststream import BaseMiddleware
from faststream.rabbit import RabbitQueue, RabbitRouter

from faststream_django import brokers
from faststream_django.worker.retrying import retry
from tests.nodes import FaultProxy
from tests.worker.sites import Calls, Rabbit, eventually

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}
NEVER = {"ATTEMPTS": 1}
ONCE_MORE = {"ATTEMPTS": 2, "BACKOFF": (60.0, 60.0)}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("faststream_django.worker.dead_letters.PAUSES", (0.05, 0.1))
    monkeypatch.setattr("faststream_django.worker.settling.GIVE_BACK_PAUSE", 0.5)


@pytest.fixture
def rabbit(settings, rabbitmq):
    site = Rabbit(settings, rabbitmq)
    site.configure()
    yield site
    site.stop()
    brokers.stop()


@pytest.fixture
def proxied(rabbit):
    """A site that publishes through a proxy, and consumes without it."""
    proxy = FaultProxy(rabbit.node.port)
    rabbit.configure(URL=proxy.url, TIMEOUT=0.5, WORKER={"ATTEMPTS": 2, "BACKOFF": (0.1, 0.1)})
    rabbit.proxy = proxy
    yield rabbit
    rabbit.stop()
    brokers.stop()
    proxy.close()


def consume(site):
    """Fail with every message "bad", and note the others and how often the bad ones came."""
    router, bad, good = RabbitRouter(), Calls(), Calls()

    @router.subscriber(site.name)
    def handle(body: str) -> None:
        if body.startswith("bad"):
            bad(body)
            raise OSError
        good(body)

    site.consume(router)
    return bad, good


def told(caplog, words):
    return [each.getMessage() for each in caplog.records if words in each.getMessage()]


def retry_queues(site, seconds):
    return [f"{site.name}.retry.{round(seconds * 1000 * variant)}" for variant in (0.85, 1.0, 1.15)]


# Full


def test_full_dead_letters_give_the_message_back_until_there_is_room(site, caplog):
    site.configure(WORKER=NEVER)
    site.declare(site.dead_letters, **FULL)
    site.publish(b"old", site.dead_letters)
    bad, good = consume(site)

    site.publish(b"bad")
    bad.wait(2)
    for number in range(20):
        site.publish(b"good %d" % number)
    good.wait(20)
    assert [each.body for each in site.drain(site.dead_letters)] == [b"old"]

    assert [each.body for each in site.wait_for(site.dead_letters)] == [b"bad"]
    assert bad.gaps[0] > 0.4  # no hot loop
    assert "goes back to its queue in 0.5 s" in caplog.text
    eventually(lambda: site.is_empty(site.name))


def test_policy_of_the_broker_that_limits_the_dead_letters_drops_none(rabbit):
    """Without our word on it RabbitMQ drops the oldest, and confirms the new one."""
    rabbit.configure(WORKER=NEVER)
    limit = '{"max-length": 1}'
    rabbit.node.ctl("set_policy", "limit", f"^{rabbit.dead_letters}$", limit, "--apply-to", "queues")
    try:
        bad, _ = consume(rabbit)
        rabbit.publish(b"bad 1")
        eventually(lambda: not rabbit.is_empty(rabbit.dead_letters))
        rabbit.publish(b"bad 2")
        bad.wait(3)
        first = rabbit.drain(rabbit.dead_letters)

        assert [each.body for each in first] == [b"bad 1"]
        assert [each.body for each in rabbit.wait_for(rabbit.dead_letters)] == [b"bad 2"]
    finally:
        rabbit.node.ctl("clear_policy", "limit")


def test_full_retry_queue_makes_a_dead_letter_of_it(site, caplog):
    site.configure(WORKER=ONCE_MORE)
    for queue in retry_queues(site, 60):
        site.declare(queue, **FULL)
        site.publish(b"old", queue)
    bad, good = consume(site)

    site.publish(b"bad")
    [dead] = site.wait_for(site.dead_letters)
    site.publish(b"good")
    good.wait()

    assert (dead.headers["faststream-attempts"], dead.headers["faststream-reason"]) == (1, "failed")
    assert len(bad.seen) == 1
    assert told(caplog, "is a dead letter now, it cannot wait")


def test_full_retry_queue_without_dead_letters_gives_the_message_back(site):
    site.configure(WORKER={**ONCE_MORE, "DEAD_LETTERS": False})
    for queue in retry_queues(site, 60):
        site.declare(queue, **FULL)
        site.publish(b"old", queue)
    bad, good = consume(site)

    site.publish(b"bad")
    bad.wait(2)
    site.publish(b"good")
    good.wait()

    assert bad.gaps[0] > 0.4


def test_more_bad_messages_than_places_do_not_stop_other_queues(site, monkeypatch):
    monkeypatch.setattr("faststream_django.worker.settling.GIVE_BACK_PAUSE", 20.0)
    site.configure(WORKER={**NEVER, "CONCURRENCY": 2})
    site.declare(site.dead_letters, **FULL)
    site.publish(b"old", site.dead_letters)
    router, bad, good = RabbitRouter(), Calls(), Calls()

    @router.subscriber(site.name)
    def handle(body: str) -> None:
        bad(body)
        raise OSError

    @router.subscriber(f"{site.name}-good")
    def handle_others(body: str) -> None:
        good(body)

    site.consume(router)
    for _ in range(5):
        site.publish(b"bad")
    bad.wait(2)
    began = bad.times[0]
    for number in range(20):
        site.publish(b"good %d" % number, f"{site.name}-good")
    good.wait(20)

    assert good.times[-1] - began < 5
    assert site.is_empty(f"{site.name}-good")


# Missing and refused


@pytest.mark.parametrize("declare", [False, "passive"])
def test_missing_queues_that_may_not_be_declared_are_told_once_with_their_recipe(site, caplog, declare):
    site.configure(WORKER=ONCE_MORE, DECLARE=declare)
    site.declare(site.name)
    bad, good = consume(site)

    site.publish(b"bad 1")
    site.publish(b"bad 2")
    bad.wait(4)
    site.publish(b"good")
    good.wait()

    recipes = " ".join(told(caplog, "Create"))
    assert f"and DECLARE is {declare!r}" in recipes
    assert recipes.count(f"'{site.name}.retry.60000' (durable, type classic, arguments {{") == 1
    assert '"x-message-ttl": 60000' in recipes
    assert recipes.count(f"'{site.dead_letters}' (durable, type classic, arguments {{") == 1
    with pytest.raises(LookupError):
        site.count(site.dead_letters)


@pytest.mark.parametrize("declare", [False, "passive"])
def test_missing_queues_are_told_at_start(rabbit, caplog, declare):
    rabbit.configure(
        DECLARE=declare, QUEUES={rabbit.name: {"type": "quorum"}}, WORKER={"ATTEMPTS": 3, "BACKOFF": (1, 60)}
    )
    rabbit.declare(rabbit.name, **{"x-queue-type": "quorum"})
    rabbit.declare(f"{rabbit.name}.retry.1000")

    consume(rabbit)

    [missing] = told(caplog, "missing for messages that fail")
    assert f"{rabbit.name}.retry.1000" not in missing
    assert f"'{rabbit.name}.retry.2000' (durable, type quorum" in missing
    assert f"'{rabbit.name}.dlq' (durable, type quorum" in missing
    assert f"{rabbit.name}.retry.4000" not in missing


def test_nothing_is_told_at_start_where_the_queues_are_declared_when_needed(rabbit, caplog):
    consume(rabbit)

    assert told(caplog, "missing for messages that fail") == []


def test_queue_that_an_operator_has_created_meanwhile_is_used(site, monkeypatch):
    monkeypatch.setattr("faststream_django.worker.helper_queues.REFUSED_FOR", 0.1)
    site.configure(WORKER=NEVER, DECLARE=False)
    site.declare(site.name)
    bad, _ = consume(site)
    site.publish(b"bad")
    bad.wait(2)

    site.declare(site.dead_letters, **{"x-max-length": 100})

    assert [each.body for each in site.wait_for(site.dead_letters)] == [b"bad"]


def test_queues_are_found_though_they_have_other_arguments(site):
    site.configure(WORKER=NEVER)
    site.declare(site.dead_letters, **{"x-max-length": 5})
    consume(site)

    site.publish(b"bad")

    assert len(site.wait_for(site.dead_letters)) == 1


def test_queue_that_was_deleted_is_declared_again(site):
    site.configure(WORKER=NEVER)
    consume(site)
    site.publish(b"bad 1")
    site.wait_for(site.dead_letters)

    site.delete(site.dead_letters)
    site.publish(b"bad 2")

    assert [each.body for each in site.wait_for(site.dead_letters)] == [b"bad 2"]


def test_user_that_may_not_declare_is_told_and_nothing_is_lost(rabbit, caplog):
    node = rabbit.node
    node.ctl("add_user", "limited", "secret")
    node.ctl("set_permissions", "limited", "^$", ".*", ".*")
    try:
        rabbit.configure(URL=node.url("limited", "secret"), WORKER=ONCE_MORE)
        rabbit.declare(rabbit.name)
        bad, good = consume(rabbit)
        rabbit.publish(b"bad")
        bad.wait(2)
        rabbit.publish(b"good")
        good.wait()

        assert told(caplog, f"queue '{rabbit.dead_letters}' cannot be declared: ACCESS_REFUSED")
        rabbit.stop_consuming()
        assert rabbit.count(rabbit.name) == 1
    finally:
        rabbit.stop_consuming()
        brokers.stop()
        node.ctl("delete_user", "limited")


# Away


def test_outage_of_the_publisher_loses_nothing(proxied, caplog):
    proxied.proxy.refuse()
    bad, good = consume(proxied)
    proxied.publish(b"bad")
    bad.wait(2)
    proxied.publish(b"good")
    good.wait()

    proxied.proxy.listen()
    [dead] = proxied.wait_for(proxied.dead_letters)

    assert (dead.body, dead.headers["faststream-attempts"]) == (b"bad", 2)
    assert told(caplog, "goes back to its queue")


def test_confirm_that_does_not_come_is_waited_for_and_asked_again(proxied):
    """The copy may be there already: it may come twice, with the same id, but it is not lost."""
    bad, _ = consume(proxied)
    proxied.publish(b"bad 1", message_id="first")
    proxied.wait_for(proxied.dead_letters)

    proxied.proxy.black_hole("client")
    proxied.publish(b"bad 2", message_id="second")
    bad.wait(3)
    proxied.proxy.heal()

    dead = proxied.wait_for(proxied.dead_letters)
    assert {each.message_id for each in dead} == {"second"}


def test_embedded_broker_that_is_stopped_loses_nothing(settings, caplog):
    from tests.worker.sites import Embedded

    site = Embedded(settings, "memory://dead-letters-outage")
    site.configure(WORKER=NEVER, TIMEOUT=0.3)
    bad, _ = consume(site)
    site.server.stop()
    site.publish(b"bad")
    bad.wait(2)

    site.server.start()

    assert [each.body for each in site.wait_for(site.dead_letters)] == [b"bad"]
    site.stop()
    brokers.stop()


def test_alias_that_has_gone_from_the_settings_loses_nothing(site, caplog):
    site.configure(WORKER=NEVER)
    consume(site)
    before, site.settings.FASTSTREAM = site.settings.FASTSTREAM, {"other": {"URL": "memory://other"}}
    site.publish(b"bad")
    eventually(lambda: told(caplog, "could not be settled"))

    site.settings.FASTSTREAM = before

    assert [each.body for each in site.wait_for(site.dead_letters)] == [b"bad"]


def test_message_that_a_middleware_has_damaged_is_not_lost_nor_quoted(site, caplog):
    site.configure(WORKER=NEVER)
    damaged = Calls()

    class Damaging(BaseMiddleware):
        async def consume_scope(self, call_next, msg):
            if damaged() == 1:
                msg.raw_message.headers = None
            return await call_next(msg)

    router = RabbitRouter(middlewares=[Damaging])

    @router.subscriber(site.name)
    def handle(number: int) -> None: ...

    site.consume(router)
    site.publish(b"secret")

    assert [each.body for each in site.wait_for(site.dead_letters)] == [b"secret"]
    assert told(caplog, "could not be settled")
    assert "secret" not in caplog.text


# What cannot be carried


@pytest.mark.parametrize(
    "headers", [{"n" * 200: 1}, {"large": "x" * 130_900}], ids=["name too long", "larger than a frame"]
)
def test_headers_that_cannot_be_kept_are_left_out_and_told(rabbit, caplog, headers):
    rabbit.configure(WORKER=NEVER)
    consume(rabbit)

    rabbit.publish(b"bad", headers={"kept": 1, **headers})
    [dead] = rabbit.wait_for(rabbit.dead_letters)

    assert dead.headers["kept"] == 1
    assert dead.headers["faststream-left-out"] == [name[:100] for name in headers]
    assert dead.headers["faststream-reason"] == "failed"
    assert told(caplog, "is handed over without its headers")


def test_more_headers_than_our_publishers_may_send_are_kept(site):
    site.configure(WORKER=NEVER)
    consume(site)
    many = {f"header-{number}": "x" * 700 for number in range(150)}

    site.publish(b"bad", headers={**many, "with\nnewline": "1"})
    [dead] = site.wait_for(site.dead_letters)

    assert many.items() <= dead.headers.items()
    assert dead.headers["with\nnewline"] == "1"
    assert "faststream-left-out" not in dead.headers


# Kept


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_dead_letter_is_kept_however_often_somebody_looks_at_it(rabbit, kind):
    """RabbitMQ 4 drops it after 20 times by default, and 3.10 after one with a limit of -1."""
    rabbit.configure(QUEUES={rabbit.name: {"type": kind}}, WORKER=NEVER)
    consume(rabbit)
    rabbit.publish(b"bad")
    eventually(lambda: not rabbit.is_empty(rabbit.dead_letters))

    for _ in range(25):
        rabbit.look(rabbit.dead_letters)

    assert len(rabbit.wait_for(rabbit.dead_letters)) == 1


# Several


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_many_that_fail_at_once_are_all_kept(site, kind):
    site.configure(QUEUES={site.name: {"type": kind}}, WORKER={"ATTEMPTS": 2, "BACKOFF": (0.2, 0.2)})
    site.declare(site.name, **{"x-queue-type": kind})
    router, calls = RabbitRouter(), Calls()

    @router.subscriber(RabbitQueue(site.name, declare=False))
    @retry(2)
    def handle(body: str) -> None:
        calls(body)
        raise OSError

    site.consume(router)
    for number in range(100):
        site.publish(b"bad %d" % number)
    dead = site.wait_for(site.dead_letters, 100)

    assert sorted(each.body for each in dead) == sorted(b"bad %d" % number for number in range(100))
    assert len(calls.seen) == 200


# The end


def test_worker_that_stops_gives_back_at_once_what_waits_for_that(rabbit, monkeypatch):
    monkeypatch.setattr("faststream_django.worker.settling.GIVE_BACK_PAUSE", 60.0)
    rabbit.configure(WORKER=NEVER)
    rabbit.declare(rabbit.dead_letters, **FULL)
    rabbit.publish(b"old", rabbit.dead_letters)
    bad, _ = consume(rabbit)
    rabbit.publish(b"bad")
    bad.wait()
    began = time.monotonic()

    rabbit.stop_consuming()

    assert time.monotonic() - began < 3
    eventually(lambda: rabbit.count(rabbit.name) == 1)
