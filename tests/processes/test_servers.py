"""Web servers of all kinds: each forks, threads and ends in its own way."""

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .conftest import ENDS, FIRST

GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--workers=2", "--bind=127.0.0.1:PORT", "--no-control-socket"),
    "--config=python:tests.processes.gunicorn_hooks",
)
GTHREAD = (*GUNICORN, "--worker-class=gthread", "--threads=4")
UWSGI = (
    Path(sys.executable).with_name("uwsgi"),
    *("--master", "--processes=2", "--http-socket=127.0.0.1:PORT", "--die-on-term"),
    *("--module=tests.test_app.wsgi", "--hook-accepting=print:booted"),
)
UVICORN = (sys.executable, "-m", "uvicorn", "--port=PORT", "tests.test_app.asgi:application")


@pytest.mark.parametrize(
    ("command", "path", "exit_code"),
    [
        pytest.param((*GUNICORN, "tests.test_app.wsgi"), "publish", 0, id="gunicorn"),
        pytest.param((*GUNICORN, "--preload", "tests.test_app.wsgi"), "publish", 0, id="gunicorn-preload"),
        pytest.param((*GTHREAD, "--preload", "tests.test_app.wsgi"), "publish", 0, id="gthread-preload"),
        # Uvicorn ends well and then kills itself by the signal that ended it.
        pytest.param(UVICORN, "publish", -signal.SIGTERM, id="uvicorn-sync-view"),
        pytest.param(UVICORN, "apublish", -signal.SIGTERM, id="uvicorn-async-view"),
        # uWSGI forks in C, without the GIL and without Python's hooks.
        pytest.param(UWSGI, "publish", 0, id="uwsgi"),
        pytest.param((*UWSGI, "--lazy-apps"), "publish", 0, id="uwsgi-lazy-apps"),
        pytest.param((*UWSGI, "--py-call-uwsgi-fork-hooks"), "publish", 0, id="uwsgi-fork-hooks"),
    ],
)
def test_a_server_publishes_from_the_first_request_to_the_last(
    rabbitmq, queue, serve, connected_pids, lost_connections, command, path, exit_code
):
    workers = 0 if command is UVICORN else 2
    server = serve(*command, workers=workers, env={"TEST_FASTSTREAM_URL": rabbitmq.url()})

    began = time.monotonic()
    answers = [server.get(f"/{path}/{queue}/")]
    first_took = time.monotonic() - began
    with ThreadPoolExecutor(4) as pool:
        answers += pool.map(server.get, [f"/{path}/{queue}/"] * 40)
    code, took = server.terminate()

    assert first_took <= FIRST
    assert {answer["message_id"] for answer in answers} == {
        message.properties.message_id for message in rabbitmq.drain(queue)
    }
    assert len(answers) == 41
    assert code == exit_code
    assert took < ENDS
    assert server.complaints == []
    assert connected_pids() == set()
    if "gunicorn" in command:  # uWSGI and uvicorn do not always give Python the time for its atexit
        assert lost_connections({answer["pid"] for answer in answers}) == []


def test_the_workers_of_a_server_connect_before_they_are_asked(rabbitmq, serve, connected_pids):
    server = serve(*GUNICORN, "tests.test_app.wsgi", env={"TEST_FASTSTREAM_URL": rabbitmq.url()})

    pids = server.wait_until(lambda: len(pids := connected_pids()) == 2 and pids)

    assert server.pid not in pids
    assert server.get("/pid/")["pid"] in pids


def test_only_the_serving_child_of_runserver_connects(rabbitmq, queue, serve, connected_pids):
    server = serve(
        *(sys.executable, "-m", "django", "runserver", "127.0.0.1:PORT"),
        env={"TEST_FASTSTREAM_URL": rabbitmq.url(), "PYTHONWARNINGS": "default"},
    )
    child = server.get("/pid/")["pid"]

    pids = server.wait_until(connected_pids)
    answer = server.get(f"/publish/{queue}/")

    assert child != server.pid
    assert answer["pid"] == child
    assert pids == connected_pids() == {child}
