import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from django.apps import apps

from faststream_django.apps import is_server_process
from tests.nodes import free_port

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parent.parent

# A connection is made by a thread, which is there when the app is ready.
REPORT = """
import os, sys, threading
print("threads:", threading.active_count())
print("faststream imported:", "faststream" in sys.modules)
"""
# Ends without the exit's handlers: what they wait for is not what these tests are about.
REPORT_AND_WAIT = f"""
{REPORT}
sys.stdout.flush()
sys.stdin.readline()
os._exit(0)
"""
IDLE = "threads: 1\nfaststream imported: False\n"


@pytest.fixture
def project(tmp_path, counting_port):
    """A project in tmp_path whose broker is the counting port."""
    return Project(tmp_path, counting_port.url)


class Project:
    def __init__(self, path, url):
        self.path = path
        self.write("manage.py", MANAGE)
        self.write("shop/__init__.py", "")
        self.write("shop/urls.py", "urlpatterns = []\n")
        self.write("shop/wsgi.py", APPLICATION.format(kind="wsgi"))
        self.write("shop/asgi.py", APPLICATION.format(kind="asgi"))
        self.url = url
        self.configure({"default": self.broker()})

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def broker(self, **entry):
        # The port is mute: one attempt lasts longer than a test, so that attempts can be counted.
        return {"URL": self.url, "CONNECT_TIMEOUT": 60} | entry

    def configure(self, faststream, more=""):
        self.write("shop/settings.py", SETTINGS.format(faststream=faststream) + more)

    def environment(self):
        environment = {key: value for key, value in os.environ.items() if key != "RUN_MAIN"}
        return environment | {
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.path)]),
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, *arguments, **environment):
        """Run Python to its end."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.environment() | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextlib.contextmanager
    def running(self, *arguments, **environment):
        """Run Python in a process group of its own, until the block is left."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.environment() | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=10)


MANAGE = """\
import os, sys
from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
execute_from_command_line(sys.argv)
"""
MANAGE_AND_REPORT = f"""
try:
    {textwrap.indent(MANAGE, "    ").strip()}
finally:
    {textwrap.indent(REPORT, "    ").strip()}
"""
APPLICATION = """\
from django.core.{kind} import get_{kind}_application

application = get_{kind}_application()
"""
SETTINGS = """\
SECRET_KEY = "only for tests"
DEBUG = True
USE_TZ = True
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = ["faststream_django"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}}}
FASTSTREAM = {faststream!r}
"""


def read_line(process):
    line = process.stdout.readline()
    assert line, "The program ended."
    return line.strip()


def test_the_app_has_a_readable_name():
    assert apps.get_app_config("faststream_django").verbose_name == "FastStream"


def test_a_test_run_is_no_server_process():
    assert is_server_process() is False


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_server_connects_in_the_background(project, counting_port, kind):
    with project.running("-c", f"import shop.{kind}\n{REPORT_AND_WAIT}") as process:
        read_line(process)
        counting_port.wait_for(1, timeout=20)

    assert counting_port.count == 1


def test_a_server_that_loads_the_application_in_its_event_loop_connects(project, counting_port):
    """As uvicorn does."""
    program = """
        import asyncio, importlib

        async def serve():
            importlib.import_module("shop.asgi")

        asyncio.run(serve())
    """

    with project.running("-c", textwrap.dedent(program) + REPORT_AND_WAIT) as process:
        read_line(process)
        counting_port.wait_for(1, timeout=20)


def test_a_server_does_not_connect_without_autostart(project, counting_port):
    project.configure({"default": project.broker(AUTOSTART=False)})

    done = project.run("-c", f"import shop.wsgi\n{REPORT}")

    assert done.stdout == IDLE
    assert counting_port.count == 0


def test_a_server_starts_every_alias_that_is_right(project, counting_port):
    project.configure(
        {
            "broken": {"URL": "amqp://user:hun@ter2@host/"},
            "off": project.broker(AUTOSTART=False),
            "default": project.broker(),
        }
    )

    with project.running("-c", f"import shop.wsgi\n{REPORT_AND_WAIT}") as process:
        logged = read_line(process)
        counting_port.wait_for(1, timeout=20)

    assert counting_port.count == 1
    assert logged.startswith("No broker was started: FASTSTREAM['broken']['URL']: the URL has ")
    assert "ter2" not in logged


@pytest.mark.parametrize("setting", [None, {5: {}}, {"default": None}, {"default": {"URL": ""}}])
def test_a_wrong_setting_does_not_keep_a_server_from_starting(project, setting):
    project.configure(setting)

    done = project.run("-c", "import shop.wsgi; print('served')")

    assert done.returncode == 0
    assert done.stdout.strip() == "served"
    assert "No broker was started: FASTSTREAM" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_starts_while_the_broker_is_away(project, unreachable_port):
    project.configure({"default": {"URL": f"amqp://guest:hunter2@127.0.0.1:{unreachable_port}/"}})
    program = """
        import time
        import django.core.wsgi, faststream_django
        from django.apps import apps

        started = time.perf_counter()
        import shop.wsgi

        print(time.perf_counter() - started)
    """

    done = project.run("-c", textwrap.dedent(program))

    assert done.returncode == 0
    assert float(done.stdout) < 3
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["check", "--deploy"],
        ["migrate"],
        ["makemigrations", "--check"],
        ["diffsettings", "--output", "unified"],
        ["shell", "-c", "print(1)"],
        ["help", "runserver"],
        ["runserver", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_does_not_connect_nor_import_faststream(project, counting_port, command):
    project.write("manage.py", MANAGE_AND_REPORT)

    # RUN_MAIN is inherited by what the serving child of runserver starts.
    environment = {} if "runserver" in command else {"RUN_MAIN": "true"}
    done = project.run("manage.py", *command, **environment)

    assert done.stdout.endswith(IDLE), done.stderr
    assert counting_port.count == 0


@pytest.mark.parametrize(
    "program",
    [
        "import django; django.setup()",
        "import sys, django; sys.argv[1:] = ['runserver']; django.setup()",
    ],
)
def test_a_script_does_not_connect(project, counting_port, program):
    done = project.run("-c", program + REPORT, RUN_MAIN="true")

    assert done.stdout == IDLE
    assert counting_port.count == 0


def test_runserver_connects_in_its_serving_child(project, counting_port):
    with project.running("manage.py", "runserver", f"127.0.0.1:{free_port()}") as process:
        counting_port.wait_for(1, timeout=20)
        while "Quit the server" not in read_line(process):
            pass

    assert counting_port.count == 1


def test_runserver_without_a_reloader_connects(project, counting_port):
    address = f"127.0.0.1:{free_port()}"

    with project.running("manage.py", "runserver", "--noreload", address) as process:
        counting_port.wait_for(1, timeout=20)
        while "Quit the server" not in read_line(process):
            pass

    assert counting_port.count == 1


def test_the_reloader_of_runserver_does_not_connect(project, counting_port):
    project.write("manage.py", INSTEAD_OF_THE_CHILD + MANAGE)

    done = project.run("manage.py", "runserver", f"127.0.0.1:{free_port()}")

    assert done.stdout == IDLE, done.stderr
    assert counting_port.count == 0


INSTEAD_OF_THE_CHILD = f"""
from django.utils import autoreload

def report():
    {textwrap.indent(REPORT, "    ").strip()}
    return 0

autoreload.restart_with_reloader = report
"""
