"""The outbox in real processes: what they end, fork and die with is in the queue or still a row."""

import json
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.util import find_spec

import pytest

from .conftest import ENDS
from .test_servers import GTHREAD, GUNICORN, UWSGI

OUTBOX = {"ON_COMMIT": "outbox"}
# No relay runs here: also on a busy machine the process that commits has the time to send.
PATIENT = {"OUTBOX": {"GRACE": 60.0}}
SITE = """
import os, signal, sys, time
import django

django.setup()
from django.core.management import call_command
from django.db import connection, connections, transaction
from faststream_django import publish, publish_many_on_commit, publish_on_commit
from faststream_django.outbox.models import OutboxMessage

QUEUE = sys.argv[1]

def say(*words):
    print(*words, flush=True)

def wait_for_no_rows():
    deadline = time.monotonic() + 30
    while OutboxMessage.objects.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)

call_command("migrate", verbosity=0)
"""
# What a master that loads the application before it forks has published by then.
PRELOADED = """
import time
from django.core.management import call_command
from tests.test_app.wsgi import application
from faststream_django import publish_on_commit
from faststream_django.outbox.models import OutboxMessage

call_command("migrate", verbosity=0)
for number in range(3):
    publish_on_commit("from the master", "QUEUE")
deadline = time.monotonic() + 30
while OutboxMessage.objects.exists() and time.monotonic() < deadline:
    time.sleep(0.01)
from django.db import connections
connections.close_all()
"""


@pytest.fixture
def rows(tmp_path):
    """Return the message ids of the rows in the program's database."""

    def rows():
        with closing(sqlite3.connect(tmp_path / "default.sqlite3")) as database:
            return [row[0] for row in database.execute("SELECT message_id FROM faststream_outbox")]

    return rows


@pytest.fixture
def start_site(start_script):
    """Start a program that stores messages for this broker."""

    def start_site(source, url, queue, *, patched="", **entry):
        env = {"TEST_FASTSTREAM_URL": url, "TEST_FASTSTREAM": json.dumps(OUTBOX | entry)}
        return start_script(patched + SITE + source, queue, env=env)

    return start_site


def ids(messages):
    return {message.properties.message_id for message in messages}


def test_exit_with_full_queue_loses_nothing(rabbitmq, queue, start_site, rows, connected_pids):
    program = start_site(
        """
publish("warm", QUEUE)
say("ids", *publish_many_on_commit(range(5000), QUEUE))
""",
        rabbitmq.url(),
        queue,
    )

    code = program.wait()

    stored, sent = set(rows()), ids(rabbitmq.drain(queue))
    assert (code, program.complaints) == (0, [])
    assert set(program.said("ids ").split()) <= stored | sent
    assert len(sent) > 1
    assert connected_pids() == set()


def test_exit_does_not_wait_for_broker_that_does_not_answer(counting_port, start_site, rows):
    program = start_site(
        """
for number in range(3):
    publish_on_commit(number, QUEUE)
say("over")
""",
        counting_port.url,
        "orders",
    )
    program.said("over")
    began = time.monotonic()

    code = program.wait()

    assert (code, program.complaints) == (0, [])
    assert time.monotonic() - began < ENDS
    assert len(rows()) == 3


def test_process_killed_before_the_confirm_leaves_its_row(counting_port, start_site, rows):
    program = start_site(
        """
with transaction.atomic():
    message_id = publish_on_commit("x", QUEUE)
say("committed", message_id)
with transaction.atomic():
    publish_on_commit("never committed", QUEUE)
    say("in transaction")
    time.sleep(60)
""",
        counting_port.url,
        "orders",
    )
    message_id = program.said("committed ")
    program.said("in transaction")

    program.send(signal.SIGKILL)
    program.wait()

    assert rows() == [message_id]


def test_both_sides_of_forks_send_their_own(rabbitmq, queue, start_site, rows, lost_connections):
    program = start_site(
        """
publish_on_commit("parent", QUEUE)
wait_for_no_rows()
connections.close_all()
for number in range(10):
    publish_many_on_commit(["parent"] * 10, QUEUE)
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        publish_many_on_commit(["child"] * 10, QUEUE)
        wait_for_no_rows()
        connections.close_all()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
wait_for_no_rows()
""",
        rabbitmq.url(),
        queue,
        **PATIENT,
    )

    code = program.wait(60)

    bodies = [message.body for message in rabbitmq.drain(queue)]
    assert (code, program.err) == (0, "")
    assert (bodies.count(b"parent"), bodies.count(b"child")) == (101, 100)
    assert rows() == []


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((*GUNICORN, "--preload", "preloaded"), id="gunicorn-preload"),
        pytest.param((*GTHREAD, "--preload", "preloaded"), id="gthread-preload"),
        pytest.param(
            (
                *(each for each in UWSGI if "--module" not in str(each)),
                "--module=preloaded",
                "--pythonpath=.",
            ),
            id="uwsgi",
        ),
    ],
)
def test_servers_send_from_each_worker(rabbitmq, queue, serve, rows, tmp_path, command):
    if command[0] == UWSGI[0]:
        # Its workers are left without threads unless it is told.
        command = (*command, "--enable-threads")
    (tmp_path / "preloaded.py").write_text(PRELOADED.replace("QUEUE", queue))
    env = {"TEST_FASTSTREAM_URL": rabbitmq.url(), "TEST_FASTSTREAM": json.dumps(OUTBOX | PATIENT)}
    server = serve(*command, workers=2, env=env)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(server.get, [f"/order/{queue}/1/"] * 40))
    server.wait_until(lambda: not rows())
    code, took = server.terminate()

    messages = rabbitmq.drain(queue)
    sent = [message.properties.message_id for message in messages if b"master" not in message.body]
    assert sorted(sent) == sorted(answer["message_id"] for answer in answers)
    assert len(messages) >= 43
    assert code == 0
    assert took < ENDS
    assert server.complaints == []


@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed.")
def test_greenlets_hand_over_to_a_greenlet(rabbitmq, queue, start_site, rows, monkeypatch):
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "")  # see test_gevent.py
    program = start_site(
        """
import gevent

def order(number):
    with transaction.atomic():
        publish_on_commit(number, QUEUE)
    connection.close()

for number in range(20):
    gevent.spawn(order, number).join()
wait_for_no_rows()
publish_many_on_commit(range(100), QUEUE)
say("well")
""",
        rabbitmq.url(),
        queue,
        patched="from gevent import monkey\nmonkey.patch_all()\n",
        **PATIENT,
    )

    code = program.wait(60)

    assert (code, program.err) == (0, "")
    assert len(rabbitmq.drain(queue)) + len(rows()) == 120
