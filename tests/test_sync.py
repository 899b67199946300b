import asyncio
import contextvars
import gc
import re
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faststream import BaseMiddleware
from faststream.rabbit import RabbitBroker
from faststream.redis import RedisBroker

from faststream_django.exceptions import (
    BrokerUnavailable,
    BulkPublishError,
    InvalidMessage,
    MessageUnroutable,
    PublishError,
    PublishTimeout,
)
from faststream_django.loop import loop_thread
from faststream_django.messages import Message
from faststream_django.sync import SyncBroker

FLASK_GUIDE = Path(__file__).parent.parent / "docs" / "how-to" / "flask.md"


@pytest.fixture
def queue(rabbitmq):
    name = rabbitmq.declare_queue()
    yield name
    rabbitmq.delete_queue(name)


def guide_examples():
    return re.findall(r"```python\n(.*?)```", FLASK_GUIDE.read_text(), re.DOTALL)


def test_publish_confirms_and_returns_the_id(rabbitmq, queue):
    with SyncBroker(RabbitBroker(rabbitmq.url())) as broker:
        message_id = broker.publish({"id": 1}, queue, headers={"tenant": "acme"}, timeout=2)

    [stored] = rabbitmq.drain(queue)
    assert stored.body == b'{"id":1}'
    assert stored.properties.message_id == message_id
    assert stored.properties.headers == {"tenant": "acme"}
    assert stored.properties.delivery_mode == 2
    assert rabbitmq.connections() == []


def wait_for_connections(rabbitmq, count):
    deadline = time.monotonic() + 10
    while len(rabbitmq.connections()) != count:
        assert time.monotonic() < deadline, rabbitmq.connections()
        time.sleep(0.05)  # asks another process


def test_threads_that_publish_first_together_share_one_connection(rabbitmq, queue):
    barrier = threading.Barrier(20)

    def make():
        made = RabbitBroker(rabbitmq.url())
        barrier.wait(10)
        return made

    broker = SyncBroker(make)
    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda number: broker.publish({"number": number}, queue), range(20)))

    wait_for_connections(rabbitmq, 1)
    broker.stop()
    assert {stored.properties.message_id for stored in rabbitmq.drain(queue)} == ids


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # redis-py's own, about what nobody closes
def test_broker_that_is_forgotten_closes_its_connection(rabbitmq, queue):
    broker = SyncBroker(RabbitBroker(rabbitmq.url()))
    broker.publish("x", queue)
    wait_for_connections(rabbitmq, 1)

    del broker
    gc.collect()

    wait_for_connections(rabbitmq, 0)


def test_other_kind_of_broker_that_is_forgotten_closes_its_connection(redis):
    given = RedisBroker(redis.url())
    broker = SyncBroker(given)
    broker.publish("x", "orders")
    connection = broker._made["SyncBroker"].connection

    del broker
    gc.collect()

    deadline = time.monotonic() + 10
    while connection._live is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Request:
    """What a context variable refers to for as long as a request lasts."""


current = contextvars.ContextVar("current")


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("verb", ["publish", "publish_many"])
def test_connection_does_not_keep_context_of_first_caller(rabbitmq, queue, verb, connected):
    """Nor do the readers, the timers and the tasks of the driver."""

    def first():
        request = Request()
        current.set(request)
        if verb == "publish":
            broker.publish("x", queue)
        else:
            broker.publish_many(["x"] * 3, queue)
        return weakref.ref(request)

    loop_thread.stop()  # the next call is the first of all
    with SyncBroker(RabbitBroker(rabbitmq.url())) as broker:
        deadline = time.monotonic() + 5
        while connected and not broker._made["SyncBroker"].connection.is_connected:
            assert time.monotonic() < deadline
        request = contextvars.Context().run(first)
        # The timers of a bulk keep their context until their time, 5 s at most, although they are cancelled.
        deadline = time.monotonic() + 10
        while request() is not None:
            assert time.monotonic() < deadline
            gc.collect()


def test_publish_takes_faststreams_positional_arguments(rabbitmq, queue):
    rabbitmq.declare_exchange("sync-events", "topic")
    rabbitmq.bind(queue, "sync-events", "order.*")

    with SyncBroker(RabbitBroker(rabbitmq.url())) as broker:
        broker.publish(b"x", "order.placed", "sync-events")

    assert rabbitmq.drain(queue)[0].routing_key == "order.placed"
    rabbitmq.delete_exchange("sync-events")


def test_app_id_of_the_broker_is_sent(rabbitmq, queue):
    with SyncBroker(RabbitBroker(rabbitmq.url(), app_id="script")) as broker:
        broker.publish(b"x", queue)
        broker.publish(b"x", queue, app_id="mine")

    assert [each.properties.app_id for each in rabbitmq.drain(queue)] == ["script", "mine"]


def test_publish_takes_an_encoded_message(rabbitmq, queue):
    message = Message.encode(b"x", queue, message_id="mine")

    with SyncBroker(RabbitBroker(rabbitmq.url())) as broker:
        assert broker.publish(message) == "mine"


def test_publish_many_confirms_all(rabbitmq, queue):
    with SyncBroker(RabbitBroker(rabbitmq.url())) as broker:
        count = broker.publish_many(({"id": number} for number in range(600)), queue)

    assert count == len(rabbitmq.drain(queue)) == 600


def test_publish_many_names_the_messages_that_failed(rabbitmq, queue):
    with (
        SyncBroker(RabbitBroker(rabbitmq.url())) as broker,
        pytest.raises(BulkPublishError) as caught,
    ):
        broker.publish_many([1, float("nan"), 3], queue)

    assert list(caught.value.errors) == [1]
    assert isinstance(caught.value.errors[1], InvalidMessage)
    assert caught.value.confirmed == len(rabbitmq.drain(queue)) == 2


def test_unroutable_message_is_an_error(rabbitmq):
    with SyncBroker(RabbitBroker(rabbitmq.url())) as broker, pytest.raises(MessageUnroutable):
        broker.publish(b"x", "no-such-queue")


def test_unreachable_broker_is_unavailable_in_time(unreachable_port):
    broker = SyncBroker(RabbitBroker(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/"))

    with pytest.raises(BrokerUnavailable):
        broker.publish(b"x", "orders", timeout=0.3)
    broker.stop()


def test_broker_can_be_used_again_after_stop(rabbitmq, queue):
    broker = SyncBroker(lambda: RabbitBroker(rabbitmq.url()))
    broker.publish(b"x", queue)
    broker.stop()

    broker.publish(b"y", queue)
    broker.stop()

    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x", b"y"]


def test_running_loop_in_the_same_thread_does_not_matter(rabbitmq, queue):
    """As in a notebook, whose cells run inside an event loop."""

    async def cell():
        with SyncBroker(RabbitBroker(rabbitmq.url())) as broker:
            return broker.publish(b"x", queue)

    asyncio.run(cell())

    assert len(rabbitmq.drain(queue)) == 1


def test_subscribers_of_the_broker_are_not_started(rabbitmq, queue):
    native = RabbitBroker(rabbitmq.url())

    @native.subscriber(queue)
    async def handle(body):
        raise AssertionError("a publisher must not consume")

    with SyncBroker(native) as broker:
        broker.publish(b"x", queue)

    assert len(rabbitmq.drain(queue)) == 1


def test_middlewares_of_the_broker_see_every_message(rabbitmq, queue):
    class Stamp(BaseMiddleware):
        async def publish_scope(self, call_next, cmd):
            cmd.add_headers({"stamp": "yes"})
            return await call_next(cmd)

    headers = {"mine": "1"}

    with SyncBroker(RabbitBroker(rabbitmq.url(), middlewares=[Stamp])) as broker:
        broker.publish(b"x", queue, headers=headers)

    assert rabbitmq.drain(queue)[0].properties.headers == {"mine": "1", "stamp": "yes"}
    assert headers == {"mine": "1"}


def test_broker_survives_a_fork(rabbitmq, queue, run_script):
    script = """
        import os, sys
        from faststream.rabbit import RabbitBroker
        from faststream_django.sync import SyncBroker
        broker = SyncBroker(RabbitBroker(sys.argv[1]))
        broker.publish(b"before", sys.argv[2])
        if os.fork() == 0:
            broker.publish(b"child", sys.argv[2])
            sys.exit(0)
        _, status = os.wait()
        broker.publish(b"parent", sys.argv[2])
        sys.exit(os.waitstatus_to_exitcode(status))
    """

    done = run_script(script, rabbitmq.url(), queue)

    assert (done.returncode, done.stderr) == (0, "")
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"before", b"child", b"parent"]


def test_flask_example_of_the_guide_works_under_threads(rabbitmq, queue, monkeypatch):
    example = next(source for source in guide_examples() if "Flask(" in source)
    monkeypatch.setenv("AMQP_URL", rabbitmq.url())
    namespace = {"__name__": "flask_example"}
    exec(compile(example.replace('"orders")', f"{queue!r})"), str(FLASK_GUIDE), "exec"), namespace)
    app = namespace["app"]

    def order(number):
        return app.test_client().post("/orders", json={"id": number})

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(order, range(100)))
    connections = rabbitmq.connections()
    namespace["broker"].stop()

    assert {response.status_code for response in responses} == {201}
    stored = rabbitmq.drain(queue)
    assert {one.properties.message_id for one in stored} == {one.json["message_id"] for one in responses}
    assert len(stored) == 100
    assert len(connections) == 1


def test_flask_example_of_the_guide_answers_an_outage(unreachable_port, monkeypatch):
    example = next(source for source in guide_examples() if "Flask(" in source)
    monkeypatch.setenv("AMQP_URL", f"amqp://guest:guest@127.0.0.1:{unreachable_port}/")
    namespace = {"__name__": "flask_example"}
    exec(compile(example.replace("timeout=2", "timeout=0.3"), str(FLASK_GUIDE), "exec"), namespace)

    response = namespace["app"].test_client().post("/orders", json={"id": 1})
    namespace["broker"].stop()

    assert response.status_code == 503
    assert response.json["maybe_sent"] is False


def test_script_of_the_guide_works(rabbitmq, queue, run_script):
    example = next(source for source in guide_examples() if "with SyncBroker" in source)

    done = run_script(example.replace('"orders"', repr(queue)), env={"AMQP_URL": rabbitmq.url()})

    assert (done.returncode, done.stdout, done.stderr) == (0, "1000\n", "")
    assert len(rabbitmq.drain(queue)) == 1001


def test_other_broker_publishes_with_its_own_arguments(redis):
    with SyncBroker(RedisBroker(redis.url())) as broker:
        length = broker.publish({"id": 1}, list="orders", timeout=2)
        assert broker.publish({"id": 2}, list="orders") == length + 1

    import redis as driver

    with driver.Redis(port=redis.port) as client:
        assert b'{"id":1}' in client.lpop("orders")


def test_other_broker_is_shared_by_threads_that_come_at_once(redis):
    made = []

    def make():
        made.append(threading.get_ident())
        return RedisBroker(redis.url())

    broker = SyncBroker(make)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: broker.publish(number, list="numbers"), range(50)))
    broker.stop()

    import redis as driver

    with driver.Redis(port=redis.port) as client:
        assert client.llen("numbers") == 50


def test_other_broker_that_is_away_is_unavailable_in_time(unreachable_port):
    broker = SyncBroker(RedisBroker(f"redis://127.0.0.1:{unreachable_port}"))

    with pytest.raises(PublishError) as caught:
        broker.publish(1, list="orders", timeout=0.5)
    broker.stop()

    assert isinstance(caught.value, BrokerUnavailable | PublishTimeout) or caught.value.maybe_sent


def test_other_broker_that_is_mute_times_out(counting_port):
    broker = SyncBroker(RedisBroker(f"redis://127.0.0.1:{counting_port.port}"), shutdown_timeout=1)

    with pytest.raises(PublishError):
        broker.publish(1, list="orders", timeout=0.5)
    broker.stop()


def test_other_broker_has_no_publish_many(redis):
    with SyncBroker(RedisBroker(redis.url())) as broker, pytest.raises(TypeError, match="RabbitBroker"):
        broker.publish_many([1])


def test_other_broker_must_be_made_anew_after_a_fork(redis, run_script):
    script = """
        import os, sys
        from faststream.redis import RedisBroker
        from faststream_django.exceptions import BrokerUnavailable
        from faststream_django.sync import SyncBroker
        given, made = SyncBroker(RedisBroker(sys.argv[1])), SyncBroker(lambda: RedisBroker(sys.argv[1]))
        given.publish(1, list="forked")
        made.publish(1, list="forked")
        if os.fork() == 0:
            made.publish(2, list="forked")
            try:
                given.publish(3, list="forked")
            except BrokerUnavailable as error:
                sys.exit(0 if "pass SyncBroker a function" in str(error) else 3)
            sys.exit(4)
        _, status = os.wait()
        sys.exit(os.waitstatus_to_exitcode(status))
    """

    done = run_script(script, redis.url())

    assert (done.returncode, done.stderr) == (0, "")
