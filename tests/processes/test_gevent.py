"""gevent: greenlets wait, their hub goes on, and the loop has a thread of the operating system."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from .conftest import ENDS, FIRST
from .test_servers import GUNICORN

pytest.importorskip("gevent")

GEVENT = (*GUNICORN, "--worker-class=gevent")
# What gunicorn loads before it forks, its workers patch too late: gevent says so.
LATE = "error,ignore:Monkey-patching ssl after ssl has already been imported"

PATCHED = """
from gevent import monkey
monkey.patch_all()
"""
GREENLETS = """
import asyncio, os, signal, sys, time
import django
import gevent

django.setup()
from faststream_django import brokers, publish
from faststream_django.exceptions import PublishError
from faststream_django.loop import loop_thread

QUEUE = sys.argv[1]
turns = 0

def turn():
    global turns
    while True:
        turns += 1
        gevent.sleep(0.001)

def say(*words):
    print(*words, flush=True)

turning = gevent.spawn(turn)
"""


def ids(messages):
    return {message.properties.message_id for message in messages}


@pytest.fixture(autouse=True)
def _without_coverage(monkeypatch):
    """Coverage takes locks of its own in each thread; gevent makes them its own, and two threads stall."""
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "")


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["gunicorn", "gunicorn-preload"])
def test_gunicorn_publishes_from_the_first_request_to_the_last(
    rabbitmq, queue, serve, connected_pids, lost_connections, options
):
    server = serve(
        *(*GEVENT, *options, "tests.test_app.wsgi"),
        workers=2,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url(), "PYTHONWARNINGS": LATE},
    )

    began = time.monotonic()
    answers = [server.get(f"/publish/{queue}/")]
    first_took = time.monotonic() - began
    with ThreadPoolExecutor(8) as pool:
        answers += pool.map(server.get, [f"/publish/{queue}/"] * 80)
    code, took = server.terminate()

    assert first_took <= FIRST
    assert {answer["message_id"] for answer in answers} == ids(rabbitmq.drain(queue))
    assert len(answers) == 81
    assert {answer["pid"] for answer in answers} <= set(map(int, server.all_said("booted ")))
    assert code == 0
    assert took < ENDS
    assert server.complaints == []
    assert connected_pids() == set()
    assert lost_connections({answer["pid"] for answer in answers}) == []


def test_a_hundred_greenlets_publish_over_one_connection_found_by_name(
    rabbitmq, queue, start_script, connected_pids, lost_connections
):
    program = start_script(
        PATCHED
        + GREENLETS
        + """
publish({}, QUEUE)
before = turns
greenlets = [gevent.spawn(publish, {"number": number}, QUEUE) for number in range(100)]
gevent.joinall(greenlets)
say("turns", turns - before)
for greenlet in greenlets:
    say("confirmed", greenlet.value)
sys.stdin.readline()
""",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url().replace("127.0.0.1", "localhost")},
    )

    turns = int(program.said("turns "))
    program.wait_until(lambda: len(program.all_said("confirmed ")) == 100)
    connections = len([each for each in rabbitmq.connections() if _is_of(each, program.pid)])
    program.tell("end")
    code = program.wait()

    messages = rabbitmq.drain(queue)
    assert (code, program.err) == (0, "")
    assert turns > 0
    assert connections == 1
    assert set(program.all_said("confirmed ")) < ids(messages)
    assert len(messages) == 101
    assert connected_pids() == set()
    assert lost_connections({program.pid}) == []


def _is_of(connection, pid):
    return f"pid={pid} " in f"{connection.client_properties.get('connection_name', '')} "


def test_the_orm_works_in_greenlets_while_others_publish(rabbitmq, queue, start_script):
    """Where a greenlet sees a running loop, each query raises SynchronousOnlyOperation."""
    program = start_script(
        PATCHED
        + GREENLETS
        + """
from django.core.management import call_command
from django.db import connection
from tests.test_app.models import Order

call_command("migrate", verbosity=0)
connection.close()
publish({}, QUEUE)

def order(number):
    Order.objects.create(number=number)
    publish({"number": number}, QUEUE)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Order.objects.filter(number=number).count()
    finally:
        connection.close()

greenlets = [gevent.spawn(order, number) for number in range(20)]
gevent.joinall(greenlets, raise_error=True)
say("orders", *{greenlet.value for greenlet in greenlets})
""",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    code = program.wait()

    assert (code, program.err) == (0, "")
    assert program.said("orders ") == "1"
    assert rabbitmq.count(queue) == 21


def test_a_greenlet_that_waits_in_vain_is_told_in_time_and_holds_up_nobody(counting_port, start_script):
    program = start_script(
        PATCHED
        + GREENLETS
        + """
brokers.start()
loop_thread.run(asyncio.sleep, 0, timeout=20)  # until FastStream is imported
before, began = turns, time.monotonic()
try:
    publish({}, QUEUE, timeout=0.5)
except PublishError as error:
    say("told", time.monotonic() - began, type(error).__name__)
say("turns", turns - before)

killed = gevent.spawn(publish, {}, QUEUE, timeout=20)
gevent.sleep(0.05)
began = time.monotonic()
killed.kill()
say("killed", time.monotonic() - began)
say("main ends")
""",
        "orders",
        env={"TEST_FASTSTREAM_URL": counting_port.url},
    )

    program.said("main ends")
    began = time.monotonic()
    code = program.wait()
    took = time.monotonic() - began

    seconds, name = program.said("told ").split()
    assert (code, program.err) == (0, "")
    assert 0.45 <= float(seconds) < 4
    assert name == "BrokerUnavailable"
    assert int(program.said("turns ")) > 50
    assert float(program.said("killed ")) < FIRST
    assert took < ENDS


@pytest.mark.parametrize("who", ["main", "greenlet"])
def test_ctrl_c_interrupts_the_main_greenlet(counting_port, start_script, who):
    program = start_script(
        PATCHED
        + GREENLETS
        + """
signal.signal(signal.SIGINT, signal.default_int_handler)
brokers.start()
loop_thread.run(asyncio.sleep, 0, timeout=20)
say("ready")
try:
    if sys.argv[2] == "main":
        publish({}, QUEUE, timeout=20)
    else:
        gevent.spawn(publish, {}, QUEUE, timeout=20).join()
except KeyboardInterrupt:
    say("interrupted")
turning.kill()
os._exit(0)
""",
        "orders",
        who,
        env={"TEST_FASTSTREAM_URL": counting_port.url},
    )

    program.said("ready")
    program.wait_until(lambda: counting_port.count)
    began = time.monotonic()
    program.send(signal.SIGINT)
    program.wait()
    took = time.monotonic() - began

    assert program.said("interrupted") == ""
    assert took < FIRST


def test_forks_of_a_process_with_greenlets(rabbitmq, queue, start_script):
    """A greenlet of the parent goes on in the child too: it publishes there over the child's connection."""
    program = start_script(
        PATCHED
        + GREENLETS
        + """
publish({"who": "parent"}, QUEUE)
turning.kill()
for number in range(5):
    pid = os.fork()
    if pid == 0:
        began = time.monotonic()
        gevent.joinall([gevent.spawn(publish, {"who": "child"}, QUEUE) for _ in range(3)], raise_error=True)
        say("first", time.monotonic() - began)
        sys.exit(7)
    say("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    publish({"who": "parent"}, QUEUE)
""",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url(), "PYTHONWARNINGS": "error,ignore:This process"},
    )

    code = program.wait()

    assert (code, program.err) == (0, "")
    assert program.all_said("ended ") == ["7"] * 5
    assert max(float(seconds) for seconds in program.all_said("first ")) <= FIRST
    assert rabbitmq.count(queue) == 6 + 15


@pytest.mark.parametrize("options", ["thread=False", "thread=False, socket=False"])
def test_patches_without_threads_are_refused_at_once(counting_port, start_script, options):
    program = start_script(
        PATCHED.replace("()", f"({options})")
        + """
import time
from django.core.wsgi import get_wsgi_application

get_wsgi_application()
from faststream_django import publish
from faststream_django.exceptions import BrokerUnavailable

for _ in range(2):
    began = time.monotonic()
    try:
        publish({}, "orders")
    except BrokerUnavailable as error:
        print("told", time.monotonic() - began, error, flush=True)
""",
        env={"TEST_FASTSTREAM_URL": counting_port.url},
    )

    code = program.wait()

    assert (code, program.err) == (0, "")
    for line in program.all_said("told "):
        seconds, _, text = line.partition(" ")
        assert float(seconds) < FIRST
        assert "gevent has patched select, selectors" in text
        assert "Call gevent.monkey.patch_all() without thread=False" in text
    assert len(program.all_said("told ")) == 2
    assert counting_port.count == 0


def test_a_middleware_may_hand_work_to_threads(start_script):
    """Those of the standard library would be greenlets of the loop thread, where no hub runs."""
    program = start_script(
        PATCHED
        + """
import asyncio, threading
from asgiref.sync import sync_to_async
from faststream_django.loop import loop_thread

async def middleware():
    here = threading.get_native_id()
    return [
        here != await asyncio.to_thread(threading.get_native_id),
        here != await sync_to_async(threading.get_native_id)(),
        here != await sync_to_async(threading.get_native_id, thread_sensitive=False)(),
    ]

print("elsewhere", loop_thread.run(middleware, timeout=5))
"""
    )

    assert (program.wait(), program.err) == (0, "")
    assert program.said("elsewhere ") == "[True, True, True]"


def test_patches_that_leave_sockets_alone_change_nothing(rabbitmq, queue, start_script):
    program = start_script(
        """
        from gevent import monkey
        monkey.patch_time()
        import sys
        import django

        django.setup()
        from faststream_django import publish

        publish({}, sys.argv[1])
        """,
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    assert (program.wait(), program.err) == (0, "")
    assert rabbitmq.count(queue) == 1


def test_patches_that_come_after_our_import_are_early_enough(rabbitmq, queue, start_script):
    program = start_script(
        f"""
import faststream_django
import faststream_django.loop
{PATCHED}{GREENLETS}
publish({{}}, QUEUE)
before = turns
loop_thread.run(asyncio.sleep, 0.1, timeout=5)
say("turns", turns - before)
""",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url(), "PYTHONWARNINGS": LATE},
    )

    code = program.wait()

    assert (code, program.complaints) == (0, [])
    assert int(program.said("turns ")) > 20
    assert rabbitmq.count(queue) == 1


def test_what_runs_when_the_patches_come_goes_on_as_it_began(rabbitmq, queue, start_script):
    """Its callers hold up their hub while they wait, until the loop thread is stopped and started again."""
    program = start_script(
        f"""
import sys
import django

django.setup()
from faststream_django import brokers, publish
from faststream_django.loop import loop_thread

publish({{}}, sys.argv[1])
{PATCHED}
import gevent

def publish_from_greenlets():
    greenlets = [gevent.spawn(publish, {{}}, sys.argv[1]) for _ in range(10)]
    gevent.joinall(greenlets, raise_error=True)

publish_from_greenlets()
brokers.stop()
publish_from_greenlets()
loop_thread.stop()
publish_from_greenlets()
""",
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url(), "PYTHONWARNINGS": LATE},
    )

    assert program.wait() == 0
    assert rabbitmq.count(queue) == 31
