"""A replay that is interrupted, or killed, and run again: what is lost, and what is there twice."""

import json
import signal
import sys
import time
import uuid
from collections import Counter

import pytest

from tests.dead_letters.buried import bury, ids_in
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(500)

LETTERS = 1000
KILLS = 15
ALL = {f"m-{number}" for number in range(LETTERS)}


@pytest.fixture(params=["classic", "quorum"])
def kind(request):
    return request.param


@pytest.fixture
def queue(rabbitmq, kind):
    name = f"orders-{uuid.uuid4().hex[:8]}"
    for each in (name, f"{name}.dlq"):
        rabbitmq.declare_queue(each, arguments={"x-queue-type": kind})
    yield name
    rabbitmq.delete_queue(name, f"{name}.dlq")


@pytest.fixture
def replay(rabbitmq, start, queue, kind):
    """Start a replay; wait until it has moved so many letters."""
    env = {
        "TEST_FASTSTREAM_URL": rabbitmq.url(),
        "TEST_FASTSTREAM": json.dumps({"QUEUES": {queue: {"type": kind}}}),
    }
    command = (sys.executable, "-m", "django", "faststream_deadletters", "replay", "--queue", queue)

    with rabbitmq.channel() as channel:

        def moved():
            return channel.queue_declare(queue, passive=True).method.message_count

        def replay(until=0):
            before = moved()
            program = start(*command, env=env)
            deadline = time.monotonic() + 60
            while moved() - before < until:
                assert time.monotonic() < deadline, program.err
            return program

        yield replay


def finish(rabbitmq, replay, queue):
    """Replay what is left, and what comes back from those that ended."""

    def is_done():
        assert replay().wait(100) == 0
        return not rabbitmq.count(f"{queue}.dlq")

    wait_until(is_done, timeout=120)
    return Counter(ids_in(rabbitmq, queue))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_two_signals_lose_nothing_and_leave_nothing_twice(rabbitmq, replay, queue, number):
    bury(rabbitmq, queue, LETTERS)

    for _ in range(2):
        program = replay(until=50)
        program.send(number)
        program.send(number)
        code = program.wait(30)

        assert code == 130, program.err
        assert "Interrupted" in program.err
        assert "Traceback" not in program.err
        assert 0 < rabbitmq.count(queue) < LETTERS

    arrived = finish(rabbitmq, replay, queue)
    assert arrived == dict.fromkeys(ALL, 1)


def test_kill_loses_nothing_and_leaves_at_most_one_twice(rabbitmq, replay, queue, kind):
    """In quorum queues, where a transaction could lose, each kill may leave one twice."""
    bury(rabbitmq, queue, LETTERS)

    for _ in range(KILLS):
        program = replay(until=20)
        program.send(signal.SIGKILL)
        assert program.wait(30) == -signal.SIGKILL

    arrived = finish(rabbitmq, replay, queue)
    assert set(arrived) == ALL
    twice = sum(arrived.values()) - LETTERS
    assert twice <= (0 if kind == "classic" else KILLS)
