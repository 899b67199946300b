"""``--liveness``: what a probe is told of a worker, and how soon."""

import os
import time

import pytest

from tests.nodes.proxy import FaultProxy
from tests.waiting import wait_until

# Seconds. The bar is 5; other things run beside the tests.
SOON = 5.0


@pytest.fixture
def file(tmp_path):
    return tmp_path / "alive"


@pytest.fixture
def proxy(rabbitmq):
    proxy = FaultProxy(rabbitmq.port)
    yield proxy
    proxy.close()


@pytest.fixture
def worker(start_worker, proxy, queues, file):
    worker = start_worker(proxy.url, "--liveness", file)
    wait_until(lambda: file.exists() and file.read_text() == "ready\n")
    return worker


def age(file):
    return time.time() - file.stat().st_mtime


def is_waiting(file):
    return file.read_text() == "waiting for default\n"


def test_worker_that_has_not_consumed_yet_is_starting(start_worker, unreachable_port, file):
    worker = start_worker(f"amqp://127.0.0.1:{unreachable_port}/", "--liveness", file)
    worker.wait_for("state=unavailable")

    assert file.read_text() == "starting\n"
    os.utime(file, (0, 0))
    wait_until(lambda: age(file) < 60)
    assert worker.stop() == 0
    assert file.read_text() == "stopping\n"


@pytest.mark.parametrize("fault", ["black_hole", "refuse"])
def test_worker_that_has_lost_its_broker_is_not_ready(worker, proxy, file, fault):
    """A link that is dead without a sign, and one that is broken."""
    getattr(proxy, fault)()
    began = time.monotonic()
    wait_until(lambda: is_waiting(file))
    took = time.monotonic() - began

    assert took < SOON
    wait_until(lambda: age(file) < 1.5)  # and yet alive
    if fault == "refuse":
        proxy.listen()
    proxy.heal()
    wait_until(lambda: file.read_text() == "ready\n")
    assert worker.stop() == 0


def test_worker_of_a_frozen_broker_is_not_ready(worker, rabbitmq, file):
    rabbitmq.pause()
    began = time.monotonic()
    wait_until(lambda: is_waiting(file))
    took = time.monotonic() - began
    rabbitmq.resume()

    assert took < SOON
    wait_until(lambda: file.read_text() == "ready\n")
    assert worker.stop() == 0


def test_worker_of_a_broker_that_stopped_is_not_ready(worker, rabbitmq, file):
    rabbitmq.kill()
    began = time.monotonic()
    wait_until(lambda: is_waiting(file))
    took = time.monotonic() - began
    rabbitmq.start()

    assert took < SOON
    wait_until(lambda: file.read_text() == "ready\n")
    assert worker.stop() == 0


def test_file_is_left_alone_while_a_handler_blocks_the_loop(worker, order, file):
    order(1, 8.0, "worker-async", blocking=True)
    worker.wait_for("handling 1")

    wait_until(lambda: age(file) > 3.0)

    worker.wait_for("handled 1")
    wait_until(lambda: age(file) < 1.5)
    assert worker.stop() == 0


def test_handler_that_takes_long_is_no_reason_to_leave_the_file_alone(worker, order, file):
    order(1, 4.0)
    worker.wait_for("handling 1")
    os.utime(file, (0, 0))

    wait_until(lambda: age(file) < 1.5, timeout=3)

    assert file.read_text() == "ready\n"
    assert worker.stop() == 0
