"""request() and arequest(), with a FastStream subscriber on the embedded broker."""

import asyncio
import gzip
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from faststream import BaseMiddleware
from faststream.message import decode_message
from faststream.rabbit import RabbitBroker, RabbitMessage, RabbitQueue, RabbitResponse

from faststream_django import Message, arequest, request
from faststream_django.backends.memory.connection import attach
from faststream_django.exceptions import (
    ConnectionLost,
    InvalidMessage,
    MessageUnroutable,
    RequestFailed,
    RequestTimeout,
)
from faststream_django.loop import loop_thread
from faststream_django.signals import message_failed, message_published
from tests.publishing.verbs import call, run
from tests.waiting import wait_until

BOTH = pytest.mark.parametrize("verb", [request, arequest])
RETURNED = [{"price": 12}, [1, 2], "text", b"\xff\x00", 3.5, True]


@pytest.fixture
def answer(server):
    """Have a handler answer the requests to the queue "prices"; return the embedded broker."""

    def answer(handler, **options):
        broker = RabbitBroker(logger=None, **options)
        broker.subscriber("prices")(handler)
        loop_thread.run(attach, server, broker, timeout=5)
        return server

    return answer


@BOTH
@pytest.mark.parametrize("returned", RETURNED)
def test_request_returns_what_the_handler_returns(answer, verb, returned):
    async def handle(body: dict):
        assert body == {"id": 7}
        return returned

    answer(handle)

    assert call(verb, {"id": 7}, "prices") == returned


@BOTH
def test_handler_that_returns_nothing_gives_an_empty_body(answer, verb):
    async def handle(body: str) -> None: ...

    answer(handle)

    assert call(verb, "x", "prices") == b""


def test_handler_sees_the_options(answer):
    async def handle(body: str, message: RabbitMessage):
        raw = message.raw_message
        return [raw.headers["tenant"], raw.priority, raw.type, raw.app_id, raw.message_id]

    answer(handle)

    assert request(
        "x",
        RabbitQueue("prices"),
        headers={"tenant": "blue"},
        priority=3,
        message_type="price.asked",
        app_id="shop",
        message_id="m-1",
    ) == ["blue", 3, "price.asked", "shop", "m-1"]


def test_request_is_transient_and_expires_with_its_deadline(answer):
    async def handle(body: str, message: RabbitMessage):
        return [int(message.raw_message.delivery_mode), message.raw_message.expiration]

    answer(handle)

    assert request("x", "prices", timeout=7) == [1, 7.0]
    assert request("x", "prices") == [1, 5.0]
    assert request("x", "prices", persist=True, expiration=60) == [2, 60.0]


def test_request_that_nobody_takes_in_time_is_not_handled_later(configure, answer):
    server = configure(QUEUES={"prices": {}})
    handled = []

    async def handle(body: str):
        handled.append(body)

    with pytest.raises(RequestTimeout):
        request("late", "prices", timeout=0.2)
    wait_until(lambda: server.count("prices") == 0)  # it arrived a little after the call
    answer(handle)
    request("next", "prices")

    assert handled == ["next"]


def test_message_can_be_the_request(answer):
    async def handle(body: str, message: RabbitMessage):
        return message.message_id

    answer(handle)

    assert request(Message.encode("x", "prices", message_id="m-1", mandatory=False)) == "m-1"


def test_each_request_has_a_correlation_id_of_its_own(answer):
    async def handle(body: str, message: RabbitMessage):
        return message.correlation_id

    answer(handle)
    message = Message.encode("x", "prices", correlation_id="shared")

    assert "shared" not in {request(message), request(message)}
    assert request(message) != request(message)


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ({"correlation_id": "c"}, "headers="),
        ({"reply_to": "answers"}, "publish"),
        ({"mandatory": False}, "fails at once"),
        ({"using": "default"}, "did you mean broker"),
        ({"timout": 3}, "did you mean timeout"),
    ],
)
@BOTH
def test_option_that_a_request_does_not_have_is_refused(server, verb, option, advice):
    with pytest.raises(TypeError, match=advice):
        call(verb, "x", "prices", **option)


@BOTH
def test_invalid_request_is_refused(server, verb):
    with pytest.raises(InvalidMessage):
        call(verb, object(), "prices")
    with pytest.raises(InvalidMessage, match="timeout"):
        call(verb, "x", "prices", timeout=0)


def test_request_in_a_running_loop_is_refused_and_names_its_twin(server):
    async def main():
        request("x", "prices")

    with pytest.raises(SynchronousOnlyOperation, match=r"Await arequest\(\)"):
        asyncio.run(main())


@BOTH
def test_unroutable_request_is_an_error(server, verb, heard):
    with pytest.raises(MessageUnroutable) as raised:
        call(verb, "x", "nowhere")

    assert [signal for _, signal, _ in heard] == [message_failed]
    assert raised.value.message.decode() == "x"


@BOTH
def test_request_without_a_reply_ends_with_its_deadline(configure, verb, heard):
    configure(QUEUES={"prices": {}})

    with pytest.raises(RequestTimeout, match="A queue has it") as raised:
        call(verb, "x", "prices", timeout=0.2)

    assert raised.value.maybe_sent is True
    assert [signal for _, signal, _ in heard] == [message_failed]


@BOTH
def test_answered_request_is_announced(answer, verb, heard):
    async def handle(body: str):
        return body

    answer(handle)
    call(verb, "x", "prices")

    assert [signal for _, signal, _ in heard] == [message_published]


def test_requests_of_many_threads_and_tasks_get_their_own_replies(answer):
    async def handle(body: int):
        await asyncio.sleep(0.001 * (body % 7))
        return body

    answer(handle)

    async def main():
        return await asyncio.gather(*(arequest(number, "prices") for number in range(100)))

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: request(number, "prices"), range(100)))
    assert answers == list(range(100))
    assert asyncio.run(main()) == list(range(100))


def test_broker_that_goes_away_fails_what_waits(configure):
    server = configure(QUEUES={"prices": {}})
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(request, "x", "prices", timeout=20)
        wait_until(lambda: "prices" in server._queues and server.count("prices"))

        server.stop()

        with pytest.raises(ConnectionLost, match="before its reply came"):
            answer.result(10)
    server.start()


# Replies that tell of a failure


@BOTH
def test_failure_of_the_handler_is_an_error_that_names_it(answer, verb, heard):
    async def handle(body: str):
        return RabbitResponse(b"", headers={"faststream-error": "OutOfStock"})

    answer(handle)

    with pytest.raises(RequestFailed, match="'OutOfStock'") as raised:
        call(verb, "x", "prices")

    assert raised.value.error_type == "OutOfStock"
    assert raised.value.maybe_sent is True
    assert raised.value.broker == "default"
    assert raised.value.message.decode() == "x"
    assert [signal for _, signal, _ in heard] == [message_published]


def test_reply_that_is_not_what_it_says_is_an_error(answer):
    async def handle(body: str):
        return RabbitResponse(b"{", content_type="application/json")

    answer(handle)

    with pytest.raises(RequestFailed, match="cannot be decoded as 'application/json'") as raised:
        request("x", "prices")
    assert raised.value.error_type is None


# OPTIONS


class Zipping(BaseMiddleware):
    """Compresses what is sent and decompresses what comes."""

    async def publish_scope(self, call_next, command):
        body = command.body.encode() if isinstance(command.body, str) else command.body
        command.body = gzip.compress(body)
        return await call_next(command)

    async def consume_scope(self, call_next, message):
        message.body = gzip.decompress(message.body)
        return await call_next(message)


@BOTH
def test_middlewares_see_the_request_and_its_reply(configure, answer, verb):
    configure(Zipping)

    async def handle(body: str):
        return body + "!"

    answer(handle, middlewares=[Zipping])

    assert call(verb, "x", "prices") == b"x!"


@BOTH
def test_middleware_sees_the_failure_of_the_handler(configure, answer, verb):
    seen = []

    class Watching(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            try:
                return await call_next(command)
            except RequestFailed as error:
                seen.append(error.error_type)
                raise

    configure(Watching)

    async def handle(body: str):
        return RabbitResponse(b"", headers={"faststream-error": "OutOfStock"})

    answer(handle)

    with pytest.raises(RequestFailed):
        call(verb, "x", "prices")
    assert seen == ["OutOfStock"]


def test_middleware_that_sends_again_gets_the_reply_to_the_second_request(configure, answer):
    class Insisting(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            try:
                return await asyncio.wait_for(call_next(command), 0.2)
            except TimeoutError:
                return await call_next(command)

    configure(Insisting)
    times = []

    async def handle(body: str):
        times.append(body)
        if len(times) == 1:
            await asyncio.Event().wait()
        return f"answer {len(times)}"

    answer(handle)

    assert request("x", "prices") == "answer 2"


def test_middleware_that_swallows_a_request_is_an_error(configure):
    class Swallowing(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            return None

    configure(Swallowing, QUEUES={"prices": {}})

    with pytest.raises(Exception, match="without passing it on"):
        request("x", "prices")


class Reversing:
    """A codec that turns the text round."""

    async def encode(self, message, serializer=None):
        return message[::-1].encode(), "text/plain"

    async def decode(self, message):
        return message.body.decode()[::-1]


def test_codec_reads_the_reply(configure, answer):
    configure(OPTIONS={"codec": Reversing()})

    async def handle(body: str):
        return body

    answer(handle)

    assert request("abc", "prices") == "abc"


def test_decoder_reads_the_reply_and_its_failure_is_told(configure, answer):
    async def decode(message):
        return {"decoded": decode_message(message)["price"]}

    configure(OPTIONS={"decoder": decode})

    async def handle(body: str):
        return {body: 12}

    answer(handle)

    assert request("price", "prices") == {"decoded": 12}
    with pytest.raises(RequestFailed, match="cannot be decoded"):
        run(arequest, "cost", "prices")
