"""How processes end: what is confirmed is in the queue, and the exit is not held up."""

import json
import signal
import time

import pytest

from .conftest import ENDS

# Publishing threads that say what was confirmed. Daemons: they run until the interpreter is gone.
PUBLISHERS = """
import os, sys, threading, time
import django

django.setup()
from faststream_django import apublish, brokers, publish
from faststream_django.exceptions import PublishError

QUEUE = sys.argv[1]
said = threading.Semaphore(0)

def say(text):
    os.write(1, f"{text}\\n".encode())

def work():
    while True:
        try:
            say(f"confirmed {publish({'at': time.time()}, QUEUE)}")
            said.release()
        except PublishError as error:
            say(f"failed {error.maybe_sent} {error}")
            return

def publish_from_threads(count):
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    for _ in range(count):
        said.acquire()

"""


def ids(messages):
    return {message.properties.message_id for message in messages}


@pytest.mark.parametrize("way_out", ["", "sys.exit(0)"], ids=["end", "sys.exit"])
def test_a_process_ends_while_daemon_threads_publish(
    rabbitmq, queue, start_script, connected_pids, lost_connections, way_out
):
    program = start_script(
        f"{PUBLISHERS}publish_from_threads(200)\nsay('main ends')\n{way_out}",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    program.said("main ends")
    began = time.monotonic()
    code = program.wait()
    took = time.monotonic() - began

    confirmed = set(program.all_said("confirmed "))
    stored = ids(rabbitmq.drain(queue))
    assert (code, program.err) == (0, "")
    assert took < ENDS
    assert len(confirmed) >= 200
    assert confirmed <= stored
    assert len(stored - confirmed) <= 4  # confirmed, and the thread was gone before it could say so
    assert all(failure.startswith("False") for failure in program.all_said("failed "))
    assert connected_pids() == set()
    assert lost_connections({program.pid}) == []


def test_sys_exit_in_main_with_apublish_in_flight(rabbitmq, queue, start_script, connected_pids):
    program = start_script(
        PUBLISHERS
        + """
import asyncio

async def publish_one():
    say(f"confirmed {await apublish({}, QUEUE)}")

async def main():
    await publish_one()
    tasks = [asyncio.create_task(publish_one()) for _ in range(200)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    say("main ends")
    sys.exit(3)

asyncio.run(main())
""",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    program.said("main ends")
    began = time.monotonic()
    code = program.wait()
    took = time.monotonic() - began

    assert (code, program.err) == (3, "")
    assert took < ENDS
    assert set(program.all_said("confirmed ")) <= ids(rabbitmq.drain(queue))
    assert connected_pids() == set()


def test_work_handed_over_is_confirmed_before_the_process_ends(rabbitmq, queue, start_script):
    """Nobody waits for the loop of a daemon thread, so its messages are in flight when main ends."""
    program = start_script(
        PUBLISHERS
        + """
import asyncio

handed_over = threading.Event()

async def publish_all():
    tasks = [asyncio.create_task(apublish({"number": number}, QUEUE)) for number in range(500)]
    await asyncio.sleep(0)  # each has taken its first step, up to the wait for its confirm
    handed_over.set()
    await asyncio.wait(tasks)

publish({"number": -1}, QUEUE)
threading.Thread(target=asyncio.run, args=(publish_all(),), daemon=True).start()
handed_over.wait()
say("main ends")
""",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    program.said("main ends")
    began = time.monotonic()
    code = program.wait()
    took = time.monotonic() - began

    assert (code, program.err) == (0, "")
    assert took < ENDS
    assert rabbitmq.count(queue) == 501


def test_sigterm_while_threads_publish(rabbitmq, queue, start_script, connected_pids):
    program = start_script(
        f"{PUBLISHERS}publish_from_threads(200)\nsay('ready')\nthreading.Event().wait()",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    program.said("ready")
    code, took = program.terminate()

    confirmed = set(program.all_said("confirmed "))
    stored = ids(rabbitmq.drain(queue))
    assert (code, program.err) == (-signal.SIGTERM, "")
    assert took < ENDS
    assert confirmed <= stored
    assert len(stored - confirmed) <= 8  # on their way when the signal came
    program.wait_until_gone(connected_pids)


def test_exit_is_not_held_up_by_a_broker_that_is_away(counting_port, unreachable_port, start_script):
    programs = {
        url: start_script(
            PUBLISHERS
            + """
import asyncio
from faststream_django.loop import loop_thread

brokers.start()
loop_thread.run(asyncio.sleep, 0, timeout=20)  # until FastStream is imported
try:
    publish({}, QUEUE, timeout=0.5)
except PublishError as error:
    say(f"failed {error.maybe_sent} {type(error).__name__}")
say("main ends")
""",
            "orders",
            env={"TEST_FASTSTREAM_URL": url},
        )
        for url in (f"amqp://guest:guest@127.0.0.1:{unreachable_port}/", counting_port.url)
    }

    for program in programs.values():
        program.said("main ends")
        began = time.monotonic()
        code = program.wait()
        took = time.monotonic() - began

        assert code == 0
        assert took < ENDS
        assert program.said("failed ") == "False BrokerUnavailable"
        assert program.complaints == []
    assert counting_port.count > 0


@pytest.mark.parametrize("in_flight", [False, True], ids=["idle", "in-flight"])
def test_exit_with_a_frozen_broker_is_bounded_by_shutdown_timeout(rabbitmq, queue, start_script, in_flight):
    program = start_script(
        PUBLISHERS
        + f"""
publish({{}}, QUEUE)
say("ready")
sys.stdin.readline()
if {in_flight}:
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.3)  # until it waits for the confirm
say("main ends")
""",
        queue,
        env={
            "TEST_FASTSTREAM_URL": rabbitmq.url(),
            "TEST_FASTSTREAM": json.dumps({"SHUTDOWN_TIMEOUT": 2.0}),
        },
    )

    program.said("ready")
    rabbitmq.pause()
    program.tell("go on")
    program.said("main ends")
    began = time.monotonic()
    code = program.wait()
    took = time.monotonic() - began

    assert code == 0
    assert took < ENDS
    assert program.complaints == []
