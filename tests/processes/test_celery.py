"""Celery's prefork workers: processes that billiard forks, and that end without Python's atexit."""

import json

import pytest

from .conftest import ENDS, FIRST

pytest.importorskip("celery")

# The tests run as root in some containers, which Celery warns of.
WARNINGS = "error,ignore:You're running the worker with superuser privileges"

# The tasks come in pairs that wait for each other, so that each of the two processes has its share.
WORKER = """
import multiprocessing, os, sys, time
import django

django.setup()
from celery import Celery
from celery.signals import worker_init, worker_ready
from faststream_django import publish

QUEUE, TASKS, BEFORE = sys.argv[1:]
app = Celery("shop", broker=os.environ["TEST_FASTSTREAM_URL"])
app.conf.update(task_default_queue=TASKS, worker_enable_remote_control=False)
pair = multiprocessing.get_context("fork").Barrier(2)

def say(text):
    os.write(1, f"{text}\\n".encode())

def publish_one():
    began = time.monotonic()
    message_id = publish({"pid": os.getpid()}, QUEUE)
    say(f"published {message_id} {time.monotonic() - began}")

@app.task
def order():
    pair.wait(20)
    publish_one()

@worker_init.connect
def publish_before_the_forks(**kwargs):
    if BEFORE == "before":
        publish_one()

@worker_ready.connect
def send_tasks(**kwargs):
    for _ in range(20):
        order.delay()
    say(f"ready {os.getpid()}")

options = "--pool=prefork --concurrency=2 --loglevel=WARNING --without-gossip --without-mingle"
app.worker_main(["worker", *options.split()])
"""


@pytest.fixture
def tasks(rabbitmq, queue):
    """What Celery names its queue and its exchange."""
    name = f"tasks-{queue}"
    yield name
    rabbitmq.recover()
    rabbitmq.delete_queue(name)
    rabbitmq.delete_exchange(name)


@pytest.mark.parametrize("before", [False, True], ids=["", "parent-publishes-before"])
def test_two_prefork_processes_publish(rabbitmq, queue, tasks, start_script, connected_pids, before):
    worker = start_script(
        WORKER,
        queue,
        tasks,
        "before" if before else "never",
        env={"TEST_FASTSTREAM_URL": rabbitmq.url(), "PYTHONWARNINGS": WARNINGS},
    )
    count = 21 if before else 20

    parent = int(worker.said("ready "))
    worker.wait_until(lambda: len(worker.all_said("published ")) == count)
    connected = connected_pids()
    code, took = worker.terminate()

    messages = rabbitmq.drain(queue)
    published = [line.split() for line in worker.all_said("published ")]
    pids = {json.loads(message.body)["pid"] for message in messages}
    assert sorted(message_id for message_id, _ in published) == sorted(
        message.properties.message_id for message in messages
    )
    assert len(pids - {parent}) == 2
    assert (parent in pids) == before
    assert connected == pids
    assert max(float(seconds) for _, seconds in published) <= FIRST
    assert code == 0
    assert took < ENDS  # Celery looks every other second whether it is to end
    assert worker.complaints == []
    worker.wait_until_gone(connected_pids)
