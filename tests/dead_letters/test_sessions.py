"""Connections of operators: the first node that takes us, and why none did."""

import time

import pytest

from faststream_django.conf.entries import broker_settings
from faststream_django.dead_letters import operating
from faststream_django.dead_letters.rescue import put_back
from faststream_django.exceptions import BrokerRefused, BrokerUnavailable
from tests.dead_letters.buried import bury, ids_in

pytestmark = pytest.mark.parametrize("kind", ["classic"], indirect=True)


def test_next_url_serves_where_the_first_does_not(
    rabbitmq, configure, queue, unreachable_port, counting_port
):
    urls = [f"amqp://127.0.0.1:{unreachable_port}/", counting_port.url, rabbitmq.url()]
    bury(rabbitmq, queue, 2)

    assert operating.counts(configure(URL=urls, CONNECT_TIMEOUT=0.5), [queue]) == {queue: 2}


def test_broker_that_is_away_is_told_without_the_url(configure, unreachable_port, kind):
    settings = configure(URL=f"amqp://shop:s3cret@127.0.0.1:{unreachable_port}/")

    with pytest.raises(BrokerUnavailable) as caught:
        operating.counts(settings, ["orders"])

    assert "s3cret" not in str(caught.value)


def test_broker_that_says_nothing_is_given_up_in_time(configure, counting_port, kind):
    settings = configure(URL=counting_port.url, CONNECT_TIMEOUT=0.5)
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable, match="CONNECT_TIMEOUT"):
        operating.counts(settings, ["orders"])

    assert time.monotonic() - began < 5


def test_refusal_is_told(rabbitmq, configure, kind):
    settings = configure(URL=rabbitmq.url(password="wrong"))

    with pytest.raises(BrokerRefused, match="credentials"):
        operating.counts(settings, ["orders"])


def test_urls_and_passwords_may_come_from_functions(rabbitmq, configure, queue):
    bury(rabbitmq, queue, 2)
    url = rabbitmq.url().replace(":guest@", "@")

    assert operating.counts(configure(URL=lambda: url, PASSWORD=lambda: "guest"), [queue]) == {queue: 2}


def test_function_that_hangs_is_given_up(configure, kind):
    import threading

    never = threading.Event()
    settings = configure(URL=lambda: never.wait(20), CONNECT_TIMEOUT=0.2)

    with pytest.raises(BrokerUnavailable, match="function for URL or PASSWORD"):
        operating.counts(settings, ["orders"])
    never.set()


def test_backend_that_has_no_way_is_told(settings, kind):
    settings.FASTSTREAM = {
        "default": {"URL": "amqp://nowhere/", "BACKEND": "tests.dead_letters.backends.Publishing"}
    }

    with pytest.raises(BrokerRefused, match="Publishing has no way to look into queues"):
        operating.counts(broker_settings("default"), ["orders"])


def test_connection_that_is_lost_is_told(rabbitmq, broker, queue):
    async def lose():
        from faststream_django.dead_letters.sessions import operator_session

        async with operator_session(broker) as session:
            channel = await session.open_channel()
            await channel.take(f"{queue}.dlq")
            rabbitmq.close_all_connections()
            await channel.take(f"{queue}.dlq")

    with pytest.raises(BrokerUnavailable, match="connection"):
        operating._run(lose)


def test_what_no_queue_has_is_put_back_through_another_connection(rabbitmq, broker, queue):
    bury(rabbitmq, queue, 1)
    letter = operating.find(broker, [queue], "m-0")
    ids_in(rabbitmq, f"{queue}.dlq", 1)

    async def rescue():
        from faststream_django.dead_letters.sessions import operator_session

        async with operator_session(broker) as session:
            await session.count(queue)
            rabbitmq.close_all_connections()
            return await put_back(broker, session, f"{queue}.dlq", letter.message)

    assert operating._run(rescue) == ""

    [message] = rabbitmq.drain(f"{queue}.dlq")
    assert message.properties.message_id == "m-0"
    assert message.headers["faststream-queue"] == queue


def test_broker_that_takes_nothing_back_is_given_up_with_the_reason(rabbitmq, broker, queue, monkeypatch):
    monkeypatch.setattr("faststream_django.dead_letters.rescue.PATIENCE", 0.3)
    bury(rabbitmq, queue, 1)
    letter = operating.find(broker, [queue], "m-0")

    async def rescue():
        from faststream_django.dead_letters.sessions import operator_session

        async with operator_session(broker) as session:
            return await put_back(broker, session, "unknown", letter.message)

    assert "NO_ROUTE" in operating._run(rescue)
