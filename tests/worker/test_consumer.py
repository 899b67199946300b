"""A consumer takes what its subscribers want, settles it, and gives back what it has not begun."""

import time

import pytest
from faststream import AckPolicy
from faststream.exceptions import StopConsume
from faststream.params import Path
from faststream.rabbit import Channel, ExchangeType, RabbitExchange, RabbitQueue, RabbitRouter
from faststream.rabbit.annotations import RabbitBroker, RabbitMessage

from faststream_django.exceptions import BrokerRefused, InvalidSubscriber
from tests.waiting import wait_until
from tests.worker.consumers import ignore, publish_many, rows


@pytest.fixture
def router():
    return RabbitRouter()


def test_messages_are_handled_and_acknowledged(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)
        handled.end(body)

    running = consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["one", "two"])
    handled.wait_for(lambda each: set(each.done) == {"one", "two"})

    assert running.consumer.queues == [queue]
    assert running.finish()
    assert rabbitmq.count(queue) == 0
    assert running.consumer.handled == 2


def test_coroutines_are_handled_and_acknowledged(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue)
    async def handle(body: str):
        handled.begin(body)
        handled.end(body)

    running = consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["one", "", "two" * 100_000], message_id="x")
    handled.wait_for(lambda each: len(each.done) == 3)

    assert running.finish()
    assert rabbitmq.count(queue) == 0
    assert set(handled.done) == {"one", "", "two" * 100_000}


def test_each_subscriber_has_a_channel_of_its_own(consume, rabbitmq, router):
    names = [f"eight-{number}" for number in range(8)]
    for name in names:
        ignore(router, name)

    consume(router, URL=rabbitmq.url())
    channels = [row["consumer_count"] for row in rows(rabbitmq, "channels", "consumer_count")]
    rabbitmq.delete_queue(*names)

    assert channels.count(1) == 8


def test_prefetch_follows_what_a_subscriber_can_handle_at_once(consume, rabbitmq, router):
    ignore(router, "prefetch-sync")
    ignore(router, "prefetch-own", channel=Channel(prefetch_count=3))
    ignore(router, "prefetch-unlimited", channel=Channel())

    @router.subscriber("prefetch-async")
    async def handle(body): ...

    consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 7})
    listed = rows(rabbitmq, "consumers", "queue_name", "prefetch_count")
    rabbitmq.delete_queue(*(row["queue_name"] for row in listed))

    assert {row["queue_name"]: row["prefetch_count"] for row in listed} == {
        "prefetch-sync": 7,
        "prefetch-own": 3,
        "prefetch-unlimited": 7,
        "prefetch-async": 100,
    }


def test_prefetch_of_the_settings_is_for_every_subscriber(consume, rabbitmq, router, queue):
    @router.subscriber(queue)
    async def handle(body): ...

    consume(router, URL=rabbitmq.url(), WORKER={"PREFETCH": 5})

    assert [row["prefetch_count"] for row in rows(rabbitmq, "consumers", "prefetch_count")] == [5]


def test_functions_run_at_most_as_many_at_once_as_concurrency_says(consume, rabbitmq, router, handled):
    names = [f"bounded-{number}" for number in range(4)]
    handlers = [router.subscriber(name)(handled_in(handled)) for name in names]

    consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 3})
    for name in names:
        publish_many(rabbitmq, name, [f"{name}-{number}" for number in range(3)])
    handled.wait_for(lambda each: sum(each.begun.values()) == 3)
    handled.go_on.set()
    handled.wait_for(lambda each: sum(each.done.values()) == 12)
    rabbitmq.delete_queue(*names)

    assert handled.most_at_once == 3
    del handlers  # FastStream keeps a subscriber only as long as somebody has its handler


def handled_in(handled):
    def handle(body: str):
        handled.hold(body)

    return handle


def test_slow_queue_leaves_places_to_the_others_in_turn(consume, rabbitmq, router, handled):
    order = []

    @router.subscriber("turns-slow")
    def slow(body: str):
        order.append("slow")
        handled.hold(body)

    @router.subscriber("turns-quick")
    def quick(body: str):
        order.append("quick")
        handled.hold(body)

    consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 1, "PREFETCH": 20})
    publish_many(rabbitmq, "turns-slow", [f"s{number}" for number in range(10)])
    handled.wait_for(lambda each: each.begun)
    publish_many(rabbitmq, "turns-quick", ["q1", "q2"])
    wait_until(lambda: rabbitmq.count("turns-quick") == 0)
    handled.go_on.set()
    handled.wait_for(lambda each: sum(each.done.values()) == 12)
    rabbitmq.delete_queue("turns-slow", "turns-quick")

    assert order[1:5].count("quick") == 2


def test_one_place_keeps_the_order_of_a_queue(consume, rabbitmq, router, queue, handled):
    order = []

    @router.subscriber(queue)
    def handle(body: str):
        order.append(body)
        handled.begin(body)

    rabbitmq.declare_queue(queue)
    bodies = [str(number) for number in range(50)]
    publish_many(rabbitmq, queue, bodies)
    consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 1, "PREFETCH": 30})
    handled.wait_for(lambda each: len(each.begun) == 50)

    assert order == bodies


# Queues


def test_queue_that_is_named_in_the_settings_is_as_they_say(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)

    options = {"type": "quorum", "arguments": {"x-delivery-limit": 5}}
    consume(router, URL=rabbitmq.url(), QUEUES={queue: options})
    publish_many(rabbitmq, queue, ["one"])
    handled.wait_for(lambda each: each.begun)
    [row] = [row for row in rows(rabbitmq, "queues", "name", "type", "arguments") if row["name"] == queue]

    assert row["type"] in {"quorum", "rabbit_quorum_queue"}
    assert "x-delivery-limit" in str(row["arguments"])


def test_subscriber_that_contradicts_the_settings_is_refused(consume, rabbitmq, router, queue):
    @router.subscriber(RabbitQueue(queue, arguments={"x-max-length": 5}))
    def handle(body): ...

    with pytest.raises(InvalidSubscriber) as caught:
        consume(router, URL=rabbitmq.url(), QUEUES={queue: {"type": "quorum"}})

    assert f"test_consumer.{test_subscriber_that_contradicts_the_settings_is_refused.__name__}" in str(
        caught.value
    )
    assert f"describes queue '{queue}' as classic, x-max-length=5" in str(caught.value)
    assert "FASTSTREAM['default']['QUEUES'] as quorum" in str(caught.value)


def test_subscribers_that_contradict_each_other_are_refused(consume, rabbitmq, router, queue):
    ignore(router, queue)
    ignore(router, RabbitQueue(queue, durable=False))

    with pytest.raises(InvalidSubscriber, match=r"as classic(, not durable)?, and .* as classic"):
        consume(router, URL=rabbitmq.url())


def test_subscribers_share_a_queue_that_they_describe_alike(consume, rabbitmq, router, queue):
    ignore(router, queue)
    ignore(router, queue)

    consume(router, URL=rabbitmq.url())

    assert len(rows(rabbitmq, "consumers", "queue_name")) == 2


def test_queue_that_exists_with_other_options_is_refused_in_words(consume, rabbitmq, router, queue):
    rabbitmq.declare_queue(queue, arguments={"x-max-length": 1})
    ignore(router, queue)

    with pytest.raises(BrokerRefused) as caught:
        consume(router, URL=rabbitmq.url())

    assert f"queue '{queue}' exists and is not as it is declared here: PRECONDITION_FAILED" in str(
        caught.value
    )


@pytest.mark.parametrize("declare", [False, "passive"])
def test_missing_queue_that_is_not_declared_is_refused_in_words(consume, rabbitmq, router, queue, declare):
    ignore(router, queue)

    with pytest.raises(BrokerRefused) as caught:
        consume(router, URL=rabbitmq.url(), DECLARE=declare)

    assert f"queue '{queue}' cannot be consumed: NOT_FOUND" in str(caught.value)
    assert "create it, durable=True, with arguments {'x-queue-type': 'classic'}" in str(caught.value)


@pytest.mark.parametrize("declare", [False, "passive"])
def test_queue_of_others_is_consumed_as_it_is(consume, rabbitmq, router, queue, declare, handled):
    rabbitmq.declare_queue(queue, arguments={"x-queue-type": "quorum", "x-max-length": 9})

    @router.subscriber(queue)
    def handle(body: str):
        handled.begin(body)

    consume(router, URL=rabbitmq.url(), DECLARE=declare)
    publish_many(rabbitmq, queue, ["one"])

    handled.wait_for(lambda each: each.begun)


def test_parts_of_the_routing_key_are_parameters(consume, rabbitmq, router, queue, handled):
    exchange = RabbitExchange("paths", type=ExchangeType.TOPIC)

    @router.subscriber(RabbitQueue(queue, routing_key="orders.{region}.new"), exchange)
    def handle(body: str, region: str = Path()):
        handled.begin(region)

    consume(router, URL=rabbitmq.url())
    rabbitmq.publish(b"x", "orders.north.new", "paths", content_type="text/plain")
    handled.wait_for(lambda each: each.begun)
    rabbitmq.delete_exchange("paths")

    assert set(handled.begun) == {"north"}


def test_exchange_that_is_named_in_the_settings_is_as_they_say(consume, rabbitmq, router, queue, handled):
    @router.subscriber(RabbitQueue(queue, routing_key="a.*"), "of-settings")
    def handle(body: str):
        handled.begin(body)

    consume(router, URL=rabbitmq.url(), EXCHANGES={"of-settings": {"type": "topic"}})
    rabbitmq.publish(b"x", "a.b", "of-settings", content_type="text/plain")
    handled.wait_for(lambda each: each.begun)
    rabbitmq.delete_exchange("of-settings")


def test_queues_that_are_not_wanted_are_left_alone(consume, rabbitmq, router, queue):
    ignore(router, queue)
    ignore(router, "unwanted")

    running = consume(router, URL=rabbitmq.url(), wants=lambda name: name == queue)

    assert running.consumer.queues == [queue]
    assert [row["name"] for row in rows(rabbitmq, "queues", "name")].count("unwanted") == 0


def test_consumer_of_nothing_starts_and_ends(consume, rabbitmq, router):
    running = consume(router, URL=rabbitmq.url())

    assert running.finish()


def test_name_that_the_driver_does_not_take_is_refused_in_words(consume, rabbitmq, router):
    ignore(router, "what?")

    with pytest.raises(BrokerRefused, match=r"queue 'what\?': ValueError: Invalid value for queue"):
        consume(router, URL=rabbitmq.url())


def test_exchange_that_ends_the_connection_is_refused_in_words(consume, rabbitmq, router, queue):
    """RabbitMQ 3 without the plugin closes the connection for its type, and with it each session."""
    ignore(router, queue, RabbitExchange("delayed", ExchangeType.X_DELAYED_MESSAGE))

    with pytest.raises(BrokerRefused, match=r"exchange 'delayed' is refused: .*unknown exchange type"):
        consume(router, URL=rabbitmq.url())


def test_queue_that_the_broker_names_is_consumed(consume, rabbitmq, router, handled):
    @router.subscriber(
        RabbitQueue("", routing_key="all", exclusive=True), RabbitExchange("names", ExchangeType.TOPIC)
    )
    def handle(body: str):
        handled.begin(body)

    running = consume(router, URL=rabbitmq.url())
    rabbitmq.publish(b"one", "all", "names", content_type="text/plain")
    handled.wait_for(lambda each: each.begun["one"])
    running.lose_connection(rabbitmq)
    rabbitmq.publish(b"two", "all", "names", content_type="text/plain")
    handled.wait_for(lambda each: each.begun["two"])
    rabbitmq.delete_exchange("names")


def test_handler_may_declare(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue)
    async def handle(body: str, broker: RabbitBroker):
        await broker.declare_queue(RabbitQueue(body))
        handled.begin(body)

    consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, [f"{queue}-new"])
    handled.wait_for(lambda each: each.begun)

    assert rabbitmq.count(f"{queue}-new") == 0
    rabbitmq.delete_queue(f"{queue}-new")


# Policies


def test_policy_nack_on_error_gives_the_message_back(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue, ack_policy=AckPolicy.NACK_ON_ERROR)
    async def handle(body: str):
        handled.begin(body)
        if handled.begun[body] < 3:
            raise ValueError
        handled.end(body)

    consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["one"])

    handled.wait_for(lambda each: each.done == {"one": 1})
    assert handled.begun["one"] == 3


def test_policy_ack_first_acknowledges_before_the_handler(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue, ack_policy=AckPolicy.ACK_FIRST)
    def handle(body: str):
        handled.hold(body)

    consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 1})
    publish_many(rabbitmq, queue, ["one", "two", "three"])
    handled.wait_for(lambda each: each.begun)

    # One is acknowledged and runs, one is in hand, as PREFETCH allows, and the others wait in the queue.
    wait_until(lambda: unacknowledged(rabbitmq, queue) == 1)
    assert rabbitmq.count(queue) == 1


def unacknowledged(node, queue):
    [row] = [row for row in rows(node, "queues", "name", "messages_unacknowledged") if row["name"] == queue]
    return row["messages_unacknowledged"]


def test_policy_manual_leaves_it_to_the_handler(consume, rabbitmq, router, queue, handled):
    kept = []

    @router.subscriber(queue, ack_policy=AckPolicy.MANUAL)
    async def handle(body: str, message: RabbitMessage):
        kept.append(message)
        handled.begin(body)

    running = consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["one", "two"])
    handled.wait_for(lambda each: len(each.begun) == 2)
    assert unacknowledged(rabbitmq, queue) == 2

    running.call(kept[1].ack(multiple=True))

    wait_until(lambda: unacknowledged(rabbitmq, queue) == 0)
    assert rabbitmq.count(queue) == 0


def test_subscriber_that_stops_itself_gives_back_the_rest(consume, rabbitmq, router, queue, handled):
    @router.subscriber(queue)
    async def handle(body: str):
        handled.begin(body)
        raise StopConsume

    rabbitmq.declare_queue(queue)
    publish_many(rabbitmq, queue, ["one", "two", "three"])
    consume(router, URL=rabbitmq.url(), WORKER={"PREFETCH": 1})
    handled.wait_for(lambda each: each.begun)

    wait_until(lambda: not rows(rabbitmq, "consumers", "queue_name"))
    wait_until(lambda: rabbitmq.count(queue) >= 2)


def test_keyboard_interrupt_of_a_coroutine_leaves_no_deaf_consumer(
    consume, rabbitmq, router, queue, handled, caplog
):
    @router.subscriber(queue)
    async def handle(body: str):
        handled.begin(body)
        if body == "one":
            raise KeyboardInterrupt
        handled.end(body)

    consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["one", "two"])

    handled.wait_for(lambda each: each.begun["one"] and each.done["two"])


# The end


def test_what_has_not_begun_is_given_back_and_what_runs_is_finished(
    consume, rabbitmq, router, queue, handled
):
    @router.subscriber(queue)
    def handle(body: str):
        handled.hold(body)

    running = consume(router, URL=rabbitmq.url(), WORKER={"CONCURRENCY": 2, "PREFETCH": 10})
    publish_many(rabbitmq, queue, [str(number) for number in range(8)])
    handled.wait_for(lambda each: len(each.begun) == 2)
    wait_until(lambda: rabbitmq.count(queue) == 0)
    running.stop_taking()

    wait_until(lambda: rabbitmq.count(queue) == 6)
    handled.go_on.set()
    assert running.finish()
    assert len(handled.done) == 2
    assert rabbitmq.count(queue) == 6


def test_handlers_that_outlive_their_time_are_told_and_cut_off(
    consume, rabbitmq, router, queue, handled, caplog
):
    @router.subscriber(queue)
    async def handle(body: str):
        await handled.ahold(body)

    running = consume(router, URL=rabbitmq.url())
    publish_many(rabbitmq, queue, ["secret"], message_id="an-id")
    handled.wait_for(lambda each: each.begun)

    started = time.monotonic()
    assert not running.finish(0.5)
    took = time.monotonic() - started

    assert took < 1.0
    assert f"queue={queue} message_id=an-id state=cut-off after=0.5s" in caplog.text
    assert "secret" not in caplog.text
    assert not handled.done
    running.call(running.consumer.close())
    wait_until(lambda: rabbitmq.count(queue) == 1)
