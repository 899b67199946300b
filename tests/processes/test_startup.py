"""Startup: it costs next to nothing, and it does not depend on the broker."""

import os
import sys
import time

import pytest

from .conftest import ENDS

GUNICORN = (sys.executable, "-m", "gunicorn", "--workers=1", "--bind=127.0.0.1:PORT", "--no-control-socket")
# Coverage makes what the processes do at first several times slower.
DELAY = 0.1 if "COVERAGE_PROCESS_CONFIG" in os.environ else 0.02
WRONG_KEY = '{"QUEUE": {}}'

TIMED_STARTUP = """
import gc
import time
from django.core.wsgi import get_wsgi_application
from faststream_django.apps import FastStreamDjangoConfig
from faststream_django.loop import loop_thread

ready = FastStreamDjangoConfig.ready

def timed(self):
    gc.collect()  # or one that is due anyway would be counted
    began = time.perf_counter()
    ready(self)
    print("took", time.perf_counter() - began, flush=True)

FastStreamDjangoConfig.ready = timed
get_wsgi_application()
print("started", loop_thread.is_started, flush=True)
"""
MANAGE = """
import sys
from django.core.management import execute_from_command_line

try:
    execute_from_command_line(["manage.py", *sys.argv[1:]])
finally:
    heavy = {"faststream", "aio_pika", "aiormq", "pydantic"} & sys.modules.keys()
    print("imported", *sorted(heavy), flush=True)
"""


@pytest.fixture(params=["mute", "dead"])
def broken_url(request):
    """The URL of a broker that never answers, or refuses connections."""
    if request.param == "mute":
        return request.getfixturevalue("counting_port").url
    return f"amqp://guest:guest@127.0.0.1:{request.getfixturevalue('unreachable_port')}/"


def test_autostart_delays_the_startup_by_no_more_than_20_ms(broken_url, start_script):
    took = []

    for _ in range(20):
        program = start_script(TIMED_STARTUP, env={"TEST_FASTSTREAM_URL": broken_url})
        assert program.wait() == 0
        assert program.said("started ") == "True"
        assert program.complaints == []
        took.append(float(program.said("took ")))
        if took[-1] <= DELAY:
            return  # once is enough: what else the machine does only ever adds

    pytest.fail(f"It took {sorted(took)} s.")


@pytest.mark.parametrize(
    "command",
    [
        ("migrate", "--verbosity=0"),
        ("check",),
        ("collectstatic", "--no-input", "--verbosity=0"),
        ("makemigrations", "--check", "--dry-run"),
        ("shell", "--command=from faststream_django import publish"),
    ],
    ids=lambda command: command[0],
)
def test_a_command_neither_connects_nor_imports_faststream(counting_port, start_script, command):
    program = start_script(MANAGE, *command, env={"TEST_FASTSTREAM_URL": counting_port.url})

    code = program.wait()

    assert (code, program.err) == (0, "")
    assert program.said("imported") == ""
    assert counting_port.count == 0


def test_a_command_that_publishes_connects(counting_port, start_script):
    program = start_script(
        MANAGE,
        "shell",
        "--command=from faststream_django import publish; publish({}, 'orders', timeout=2)",
        env={"TEST_FASTSTREAM_URL": counting_port.url},
    )

    assert program.wait() == 1
    assert "faststream_django.exceptions" in program.err
    assert counting_port.count == 1


def test_what_is_late_because_of_imports_is_known_not_to_be_sent(rabbitmq, queue, start_script):
    """The first publish of a process imports FastStream: on a slow machine that takes longer than it has."""
    program = start_script(
        """
        import sys, time
        import django

        class SlowDisk:
            def find_spec(self, name, path, target=None):
                if name == "faststream.rabbit":
                    time.sleep(1)

        django.setup()
        from faststream_django import publish
        from faststream_django.exceptions import PublishError

        sys.meta_path.insert(0, SlowDisk())
        try:
            publish("late", sys.argv[1], timeout=0.3)
        except PublishError as error:
            print("maybe sent:", error.maybe_sent)
        publish("in time", sys.argv[1], timeout=10)
        """,
        queue,
        env={"TEST_FASTSTREAM_URL": rabbitmq.url()},
    )

    code = program.wait()

    assert (code, program.err) == (0, "")
    assert [message.body for message in rabbitmq.drain(queue)] == [b"in time"]
    assert program.said("maybe sent:") == "False"


SITE = """
import os, sys, time

sys.path.insert(0, os.getcwd())
from django.core.wsgi import get_wsgi_application

get_wsgi_application()
deadline = time.monotonic() + float(sys.argv[1])
while time.monotonic() < deadline:
    pass
import site_urls

print("booted", flush=True)
os._exit(0)  # the end of the process is not what this is about
"""


def test_20_of_20_sites_boot_whose_urls_import_faststream_too(unreachable_port, start_script, tmp_path):
    """At any moment of the import that AUTOSTART does in the background."""
    (tmp_path / "site_urls.py").write_text(
        "from faststream.middlewares import BaseMiddleware\nfrom faststream.rabbit import RabbitBroker\n"
    )
    url = f"amqp://guest:guest@127.0.0.1:{unreachable_port}/"

    def boot(number):
        program = start_script(SITE, number * 0.01, env={"TEST_FASTSTREAM_URL": url})
        return program.wait(), program.err

    outcomes = [boot(number) for number in range(20)]

    assert [err for code, err in outcomes if code or "Error" in err] == []


def test_a_server_boots_and_answers_without_its_broker(broken_url, serve):
    server = serve(*GUNICORN, "tests.test_app.wsgi", env={"TEST_FASTSTREAM_URL": broken_url})
    booted = time.monotonic() - server.started

    code, took = server.terminate()

    assert booted < 15
    assert code == 0
    assert took < ENDS
    assert server.complaints == []


def test_a_server_boots_with_wrong_settings_and_says_so(serve):
    server = serve(*GUNICORN, "tests.test_app.wsgi", env={"TEST_FASTSTREAM": WRONG_KEY})

    code, _ = server.terminate()

    assert code == 0
    assert "No broker was started: FASTSTREAM['default']: unknown key 'QUEUE'" in server.err
    assert "Traceback" not in server.err


def test_check_reports_wrong_settings(start_script):
    program = start_script(MANAGE, "check", env={"TEST_FASTSTREAM": WRONG_KEY})

    assert program.wait() == 1
    assert "faststream_django.E001" in program.err
    assert "did you mean 'QUEUES'?" in program.err
