import asyncio
import time
from contextlib import suppress
from contextvars import ContextVar

import pytest
from django.db import transaction
from faststream import BaseMiddleware

from faststream_django import Message, apublish, apublish_many, publish, publish_many, publish_on_commit
from faststream_django.exceptions import BulkPublishError, InvalidMessage, PublishError, PublishTimeout
from faststream_django.signals import message_failed, message_published
from tests.publishing.verbs import bodies, call, run


class Stamping(BaseMiddleware):
    async def publish_scope(self, call_next, command):
        command.headers["stamp"] = str(command.body)
        return await call_next(command)


@pytest.mark.django_db(transaction=True)  # a TestCase's transaction would keep back what is on commit
def test_middlewares_see_every_message_of_every_verb_and_may_add_headers(configure):
    server = configure(Stamping)

    publish("1", "orders")
    publish_many(["2", Message.encode("3", "orders")], "orders")
    publish_on_commit("4", "orders")
    asyncio.run(apublish("5", "orders", headers={"own": "kept"}))
    asyncio.run(apublish_many(["6"], "orders"))

    stored = server.drain("orders")
    assert [message.headers["stamp"] for message in stored] == [f"b'{n}'" for n in range(1, 7)]
    assert stored[4].headers["own"] == "kept"


def test_headers_of_a_middleware_arrive_on_rabbitmq(settings, rabbitmq, rabbit_queue):
    settings.FASTSTREAM = {"default": {"URL": rabbitmq.url(), "OPTIONS": {"middlewares": [Stamping]}}}

    publish("x", rabbit_queue)

    [stored] = rabbitmq.drain(rabbit_queue)
    assert stored.headers == {"stamp": "b'x'"}
    assert stored.properties.content_type == "text/plain"


def test_middleware_does_not_change_the_message_of_the_caller(configure):
    configure(Stamping)
    message = Message.encode("x", "orders", headers={"own": "kept"})

    publish(message)

    assert message.headers == {"own": "kept"}


@pytest.mark.parametrize("verb", [publish, publish_many, apublish, apublish_many])
def test_middlewares_see_the_context_of_the_caller(configure, verb):
    request_id = ContextVar("request_id")
    seen = []

    class Reading(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            seen.append(request_id.get(None))
            return await call_next(command)

    configure(Reading)

    for number in range(2):
        token = request_id.set(number)
        call(verb, "x", "orders")
        request_id.reset(token)
    call(verb, "x", "orders")

    assert seen == [0, 1, None]


class Dawdling(BaseMiddleware):
    """Takes longer for the earlier messages; hangs for one that says so."""

    async def publish_scope(self, call_next, command):
        body = command.body.decode()
        await asyncio.sleep(60 if body == "hang" else 0.02 * (9 - int(body)))
        return await call_next(command)


async def gather_from_one_task(bodies):
    await asyncio.gather(*(apublish(body, "orders") for body in bodies))


async def group_from_one_task(bodies):
    async with asyncio.TaskGroup() as group:
        for body in bodies:
            group.create_task(apublish(body, "orders"))


@pytest.mark.parametrize(
    "send",
    [
        lambda numbers: publish_many(numbers, "orders"),
        lambda numbers: asyncio.run(apublish_many(numbers, "orders")),
        lambda numbers: asyncio.run(gather_from_one_task(numbers)),
        lambda numbers: asyncio.run(group_from_one_task(numbers)),
    ],
    ids=["publish_many", "apublish_many", "gather", "TaskGroup"],
)
def test_messages_keep_the_order_of_the_calls_although_a_middleware_awaits(configure, send):
    server = configure(Dawdling)

    send(range(10))

    assert bodies(server) == list(range(10))


@pytest.mark.django_db(transaction=True)
def test_messages_of_a_transaction_keep_their_order_although_a_middleware_awaits(configure):
    server = configure(Dawdling)

    with transaction.atomic():
        for number in range(10):
            publish_on_commit(number, "orders")

    assert bodies(server) == list(range(10))


def test_slow_middleware_of_one_caller_holds_up_no_other(configure):
    """Two tasks are two callers, as two requests are; so are two threads."""
    server = configure(Dawdling)

    async def main():
        hanging = asyncio.create_task(apublish_in_a_task_of_its_own("hang"))
        await asyncio.sleep(0)
        await asyncio.create_task(apublish_in_a_task_of_its_own(9))
        await asyncio.to_thread(publish, 9, "orders")
        return not hanging.done() and hanging.cancel()

    async def apublish_in_a_task_of_its_own(body):
        await apublish(body, "orders", timeout=50)

    started = time.monotonic()
    assert asyncio.run(main())
    assert time.monotonic() - started < 30
    assert bodies(server) == [9, 9]


def test_messages_behind_one_that_hangs_leave_once_its_time_is_over(configure):
    server = configure(Dawdling)

    async def main():
        return await asyncio.gather(
            apublish("hang", "orders", timeout=0.5),
            apublish(8, "orders", timeout=30),
            apublish(9, "orders", timeout=30),
            return_exceptions=True,
        )

    hung, *others = asyncio.run(main())

    assert type(hung) is PublishTimeout
    assert hung.maybe_sent is False
    assert all(isinstance(other, str) for other in others)
    assert bodies(server) == [8, 9]


def test_deadline_holds_behind_one_that_hangs(configure):
    server = configure(Dawdling)
    publish(9, "orders")

    async def until_the_second_is_told():
        hanging = asyncio.create_task(apublish("hang", "orders", timeout=50))
        waiting = asyncio.create_task(apublish(9, "orders", timeout=0.5))
        with pytest.raises(PublishTimeout) as raised:
            await waiting
        hanging.cancel()
        return raised.value

    error = asyncio.run(until_the_second_is_told())

    assert error.maybe_sent is False
    assert bodies(server) == [9]


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "publishes twice"])
def test_middleware_that_fails_or_publishes_twice_lets_those_behind_it_pass(configure, fails):
    class Odd(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body != b"0":
                return await call_next(command)
            if fails:
                raise LookupError("the middleware's own")
            await call_next(command)
            return await call_next(command)

    server = configure(Odd)

    with suppress(BulkPublishError):
        publish_many(range(4), "orders")

    assert sorted(bodies(server)) == ([1, 2, 3] if fails else [0, 0, 1, 2, 3])


def test_middleware_that_ignores_its_end_does_not_send_what_was_called_unsent(configure):
    class Stubborn(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60 if command.body == b"stubborn" else 0)
            return await call_next(command)

    server = configure(Stubborn)
    publish("first", "orders")

    with pytest.raises(PublishTimeout) as raised:
        publish("stubborn", "orders", timeout=0.3)
    publish("last", "orders")

    assert raised.value.maybe_sent is False
    assert bodies(server) == ["first", "last"]


class Refusing(BaseMiddleware):
    error = LookupError("the middleware's own")

    async def publish_scope(self, call_next, command):
        if command.body == b"bad":
            raise self.error
        return await call_next(command)


@pytest.mark.parametrize("verb", [publish, apublish])
def test_error_of_a_middleware_reaches_the_caller_unchanged(configure, verb):
    server = configure(Refusing)

    with pytest.raises(LookupError) as raised:
        call(verb, "bad", "orders")
    publish("fine", "orders")

    assert raised.value is Refusing.error
    assert bodies(server) == ["fine"]


def test_timeout_error_of_a_middleware_is_its_own(configure):
    class Late(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            raise TimeoutError("the middleware's own")

    configure(Late)

    with pytest.raises(TimeoutError, match="the middleware's own"):
        publish("x", "orders")


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_error_of_a_middleware_is_that_of_one_message_among_many(configure, verb):
    server = configure(Refusing)

    with pytest.raises(BulkPublishError) as raised:
        run(verb, ["1", "bad", "3"], "orders")

    [(index, error)] = raised.value.errors.items()
    assert index == 1
    assert error.__cause__ is Refusing.error
    assert "the middleware's own" in str(error)
    assert error.maybe_sent is False
    assert bodies(server) == ["1", "3"]


def test_message_that_a_middleware_keeps_is_an_error(configure, heard):
    class Swallowing(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            return None

    server = configure(Swallowing)

    with pytest.raises(PublishError, match="without passing it on") as raised:
        publish("x", "orders")

    assert raised.value.maybe_sent is False
    assert [signal for _, signal, _ in heard] == [message_failed]
    assert bodies(server) == []


class Exiting(BaseMiddleware):
    async def publish_scope(self, call_next, command):
        if command.body == b"exit":
            raise SystemExit(3)
        return await call_next(command)


@pytest.mark.parametrize("verb", [publish, apublish])
def test_exit_in_a_middleware_does_not_end_the_loop_thread(configure, verb):
    server = configure(Exiting)

    with pytest.raises(SystemExit):
        call(verb, "exit", "orders")
    publish("fine", "orders")

    assert bodies(server) == ["fine"]


@pytest.mark.parametrize("verb", [publish_many, apublish_many])
def test_exit_in_a_middleware_is_the_error_of_one_message_among_many(configure, heard, verb):
    """Every message of a bulk has an outcome, so that one cannot end the call for the others."""
    server = configure(Exiting)

    with pytest.raises(BulkPublishError) as raised:
        run(verb, ["1", "exit", "3"], "orders")

    assert isinstance(raised.value.errors[1].__cause__, SystemExit)
    assert raised.value.confirmed == 2
    assert len(heard) == 3
    assert bodies(server) == ["1", "3"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda command: setattr(command, "body", float("nan")), "NaN"),
        (lambda command: command.headers.update({"bad": object()}), "bad"),
        (lambda command: setattr(command, "destination", "x" * 300), "routing_key|255"),
    ],
    ids=["body", "headers", "routing key"],
)
def test_invalid_change_of_a_middleware_is_refused_and_hurts_nobody(configure, heard, change, text):
    class Changing(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body == b"change":
                change(command)
            return await call_next(command)

    server = configure(Changing)

    with pytest.raises(InvalidMessage, match=text) as raised:
        publish("change", "orders", message_id="changed")
    publish("fine", "orders")

    assert raised.value.message_id == "changed"
    assert raised.value.broker == "default"
    assert [signal for _, signal, _ in heard] == [message_failed, message_published]
    assert bodies(server) == ["fine"]


def test_user_id_of_a_middleware_is_refused(configure):
    class Naming(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            command.message_options["user_id"] = "somebody"
            return await call_next(command)

    configure(Naming)

    with pytest.raises(InvalidMessage, match="user_id"):
        publish("x", "orders")


def test_properties_survive_the_middlewares(configure):
    server = configure(Stamping)
    options = {
        "correlation_id": "c",
        "reply_to": "answers",
        "priority": 3,
        "message_type": "t",
        "expiration": 60,
        "persist": False,
        "content_encoding": "gzip",
        "content_type": "application/x",
    }

    publish(b"x", "orders", message_id="m", **options)

    [stored] = server.drain("orders")
    assert {name: getattr(stored, name) for name in options} == options
    assert stored.message_id == "m"


@pytest.mark.parametrize("one", ["abc", b"abc", {"id": 1}, Message.encode(1, "orders")])
def test_publish_many_refuses_one_message(one):
    with pytest.raises(TypeError, match="takes an iterable of messages, not one"):
        publish_many(one, "orders")
