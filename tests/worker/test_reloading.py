"""``--reload``: the worker starts again when its code changes, as Django's development server does."""

import os
import signal
import time

import pytest

from faststream_django.worker.reloading import _LookingBack
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
    worker = start_reloading()
    write_project(tmp_path, "def")
    for pause in (1, 2, 4, 8, 16):
        worker.wait_for(f"state=crashed code=2 again_in={pause}s")

    write_project(tmp_path, CHANGED)

    worker.wait_for("Consuming", count=2, timeout=14)
    order(1)
    worker.wait_for("handled anew 1")
    assert worker.stop() == 0


def test_interrupt_stops_it_while_the_code_cannot_be_loaded(start_reloading, tmp_path):
    worker = start_reloading()
    write_project(tmp_path, "def")
    worker.wait_for("state=crashed")

    assert worker.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(("age", "is_noticed"), [(5, True), (20, False), (-3600, False)])
def test_change_before_the_first_look_is_noticed(tmp_path, age, is_noticed):
    """But not one before the code was imported, nor a file whose time is still to come."""
    now = time.time()
    file = tmp_path / "settings.py"
    file.touch()
    os.utime(file, (now - age, now - age))
    reloader = _LookingBack(since=now - 10)
    reloader.extra_files.add(file)

    first, second = (dict(reloader.snapshot_files())[file] for _ in range(2))

    assert (second > first) is is_noticed
