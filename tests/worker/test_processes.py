"""``--processes``: a supervisor, and the processes that it starts, replaces and stops."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.waiting import wait_until
from tests.worker.commands import SUBSCRIBERS, is_gone, write_project

LIMIT = 1.0
# Seconds beyond the limit. The bar is 0.5, and 0.1 what it takes on a machine that does nothing else.
GRACE = 1.0


@pytest.fixture
def start_two(start_worker, rabbitmq, queues):
    """Start two processes that consume; return their supervisor."""

    def start_two(*arguments):
        worker = start_worker(rabbitmq.url(), "--processes", 2, *arguments)
        worker.wait_for("Consuming", count=2)
        return worker

    return start_two


def test_all_processes_consume_until_a_signal(start_two, order):
    worker = start_two("--concurrency", 1)
    children = worker.children()
    for number in range(2):
        order(number, 0.5)
    handling = worker.wait_for("handling", count=2)

    code = worker.stop()

    assert code == 0
    assert {int(line.split()[-1]) for line in handling} == set(children)
    assert worker.output.count("handled") == 2
    assert worker.output.count("Stopped.") == 1
    assert all(map(is_gone, children))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_for_the_whole_group_counts_once(start_two, order, number):
    """A terminal and systemd send it to the supervisor and to each process."""
    worker = start_two()
    order(1, 1.0)
    worker.wait_for("handling")

    os.killpg(worker.pid, number)

    assert worker.wait() == 0
    assert "handled 1" in worker.output


def test_process_that_is_killed_is_replaced_and_its_message_handled_again(start_two, rabbitmq, order):
    worker = start_two("--concurrency", 1)
    order(1, 0.5)
    killed = int(worker.wait_for("handling 1")[0].split()[-1])

    os.kill(killed, signal.SIGKILL)

    worker.wait_for("handled 1")
    worker.wait_for(f"pid={killed} state=crashed code=SIGKILL again_in=1s")
    worker.wait_for("Consuming", count=3)
    assert len(worker.children()) == 2
    assert worker.stop() == 0
    assert rabbitmq.count("worker-orders") == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_processes_stop_gracefully_when_the_supervisor_is_gone(start_two, order, number):
    worker = start_two()
    children = worker.children()
    order(1, 1.0)
    worker.wait_for("handling 1")

    worker.send(number)

    wait_until(lambda: all(map(is_gone, children)))
    worker.wait()
    assert "reason='the supervisor is gone'" in worker.output
    assert "handled 1" in worker.output


def test_process_that_crashes_again_and_again_is_replaced_more_slowly(start_two, tmp_path):
    worker = start_two()
    source = "import os, pathlib\nif pathlib.Path('broken').exists(): os._exit(5)\n" + SUBSCRIBERS
    write_project(tmp_path, source)
    (tmp_path / "broken").touch()

    os.kill(worker.children()[0], signal.SIGKILL)

    worker.wait_for("process=1 ")
    for pause in (2, 4):
        worker.wait_for(f"state=crashed code=5 again_in={pause}s")
    (tmp_path / "broken").unlink()
    worker.wait_for("Consuming", count=3)
    assert worker.stop() == 0


def test_handlers_of_all_processes_are_cut_off_in_time(start_two, order):
    worker = start_two("--shutdown-timeout", LIMIT, "--concurrency", 1)
    for number in range(2):
        order(number, 30)
    worker.wait_for("handling", count=2)

    code, took = worker.time_stop()

    assert code == 3
    assert LIMIT <= took < LIMIT + GRACE
    assert worker.output.count("state=cut-off") == 2
    assert "Handlers were cut off." in worker.output


def test_second_signal_hurries_all_processes(start_two, order):
    worker = start_two()
    order(1, 30)
    worker.wait_for("handling")
    worker.send(signal.SIGTERM)
    worker.wait_for("state=stopping", count=2)

    code, took = worker.time_stop()

    assert code == 3
    assert took < GRACE


def test_process_that_is_frozen_is_killed_in_the_end(start_two):
    worker = start_two("--shutdown-timeout", LIMIT)
    frozen = worker.children()[0]
    os.kill(frozen, signal.SIGSTOP)

    code, took = worker.time_stop()

    assert code == 1
    assert took < LIMIT + 1.0 + GRACE
    assert f"pid={frozen} state=killed" in worker.output
    assert is_gone(frozen)


def test_process_that_has_handled_enough_is_replaced(start_worker, rabbitmq, order):
    worker = start_worker(
        rabbitmq.url(), "--processes", 1, "--max-messages", 5, "--concurrency", 1, "--prefetch", 1
    )
    worker.wait_for("Consuming")
    for number in range(20):
        order(number, 0.05)

    worker.wait_for("handled 19", timeout=40)

    assert worker.stop() == 0
    assert len({line.split()[-1] for line in worker.lines if line.startswith("handling")}) > 1
    assert "process=1 " in worker.wait_for("state=ended code=0")[0]
    assert worker.output.count("\nhandled ") == 20


def test_mistake_that_only_a_process_finds_ends_all(start_worker, rabbitmq, queues, tmp_path):
    write_project(
        tmp_path,
        """
        from faststream.rabbit import RabbitQueue, RabbitRouter

        router = RabbitRouter()

        @router.subscriber("worker-orders")
        def handle(order: dict): ...

        @router.subscriber(RabbitQueue("worker-orders", durable=True, arguments={"x-max-length": 1}))
        def handle_too(order: dict): ...
        """,
    )

    worker = start_worker(rabbitmq.url(), "--processes", 2)

    assert worker.wait() == 2
    assert "worker-orders" in worker.output
    assert "A process cannot do what it is asked for." in worker.output


def test_liveness_file_tells_how_all_processes_are(start_two, tmp_path):
    file = tmp_path / "alive"
    worker = start_two("--liveness", file)
    wait_until(lambda: file.read_text() == "ready\n")

    os.kill(worker.children()[1], signal.SIGKILL)

    wait_until(lambda: re.fullmatch(r"waiting for process [12] \(starting\)\n", file.read_text()))
    wait_until(lambda: file.read_text() == "ready\n")
    assert worker.stop() == 0


def test_liveness_file_is_left_alone_while_a_process_is_frozen(start_two, tmp_path):
    file = tmp_path / "alive"
    worker = start_two("--liveness", file)
    wait_until(lambda: file.read_text() == "ready\n")

    os.kill(worker.children()[1], signal.SIGSTOP)

    wait_until(lambda: age(file) > 2.5)
    os.kill(worker.children()[1], signal.SIGCONT)
    wait_until(lambda: age(file) < 1.5)
    assert worker.stop() == 0


def age(file: Path) -> float:
    return time.time() - file.stat().st_mtime


def test_one_process_relays(start_worker, rabbitmq, queues, tmp_path):
    write_project(tmp_path, SUBSCRIBERS, settings=OUTBOX)
    assert start_worker(rabbitmq.url(), command="migrate").wait() == 0
    worker = start_worker(rabbitmq.url(), "--processes", 2, "--relay")
    worker.wait_for("Consuming", count=2)

    assert worker.stop() == 0
    assert worker.output.count("Relaying from database 'default' to broker 'default'") == 1


OUTBOX = """
INSTALLED_APPS += ["faststream_django.outbox"]
FASTSTREAM["default"]["ON_COMMIT"] = "outbox"
DATABASES["default"]["NAME"] = "shop.sqlite3"
"""
