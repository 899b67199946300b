"""``--reload``: the worker starts again when its code changes, as Django's development server does."""

import signal

import pytest

from tests.worker.commands import SUBSCRIBERS, write_project

CHANGED = SUBSCRIBERS.replace('say("handled"', 'say("handled anew"')


@pytest.fixture
def start_reloading(start_worker, rabbitmq, queues):
    def start_reloading(*arguments):
        worker = start_worker(rabbitmq.url(), "--reload", *arguments)
        worker.wait_for("Consuming")
        return worker

    return start_reloading


def test_changed_code_is_run_once_the_handlers_have_finished(start_reloading, order, tmp_path):
    worker = start_reloading()
    order(1, 3.0)
    worker.wait_for("handling 1")

    write_project(tmp_path, CHANGED)

    worker.wait_for("handled 1")
    worker.wait_for("Consuming", count=2)
    order(2)
    worker.wait_for("handled anew 2")
    assert worker.output.count("handling 1 ") == 1
    assert worker.stop() == 0


def test_code_that_cannot_be_loaded_is_waited_for(start_reloading, order, tmp_path):
    worker = start_reloading("--processes", 2)
    worker.wait_for("Consuming", count=2)
    write_project(tmp_path, "def")
    for pause in (1, 2, 4, 8):
        worker.wait_for(f"state=crashed code=2 again_in={pause}s", count=2)

    write_project(tmp_path, CHANGED)

    worker.wait_for("Consuming", count=4, timeout=7)
    order(1)
    worker.wait_for("handled anew 1")
    assert worker.stop() == 0


def test_interrupt_stops_it_while_the_code_cannot_be_loaded(start_reloading, tmp_path):
    worker = start_reloading()
    write_project(tmp_path, "def")
    worker.wait_for("state=crashed")

    assert worker.stop(signal.SIGINT) == 0
