import contextlib
import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .engines import DATABASES, ENGINES, make_mariadb_database, migrated, sqlite_database, swapped
from .nodes import (
    MariaDBServer,
    MissingService,
    MuteServer,
    PostgreSQLCluster,
    RabbitMQNode,
    RedisServer,
    unused_port,
)

ROOT = Path(__file__).parent.parent


def pytest_configure():
    # A shell ignores SIGINT for its background jobs, nohup ignores SIGHUP, and what the tests start would
    # inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _usual_signals():
    """What a command has set for the end of its process must not be inherited by what later tests start."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items):
    for item in items:
        if " object at 0x" in item.nodeid:
            raise pytest.UsageError(
                f"{item.nodeid}: the workers of pytest-xdist must find tests of the same names. Give it ids."
            )
        if "rabbitmq" in item.fixturenames:
            item.add_marker(pytest.mark.rabbitmq)
        # A test that needs PostgreSQL says so with the marker or with the fixture.
        if "postgresql" in item.fixturenames:
            item.add_marker(pytest.mark.postgresql)
        elif item.get_closest_marker("postgresql"):
            item.fixturenames.insert(0, "postgresql")
        if "engine" in item.fixturenames:  # before pytest-django's, which look at the databases
            item.fixturenames.remove("engine")
            item.fixturenames.insert(0, "engine")


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("engines")
        engines = ENGINES if marker is None else marker.args
        if "postgresql" in metafunc.fixturenames or metafunc.definition.get_closest_marker("postgresql"):
            engines = ["postgresql"]
        metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture
def answer(monkeypatch):
    """Say what somebody types; before that there is no terminal."""

    def answer(text, *, isatty=True):
        stream = io.StringIO(text)
        stream.isatty = lambda: isatty
        monkeypatch.setattr(sys, "stdin", stream)

    answer("", isatty=False)
    return answer


@pytest.fixture(scope="session", autouse=True)
def _real_brokers():
    """Publish for real, as no other project's tests do by default; test_guard.py tests the guard."""
    from faststream_django import brokers

    with brokers.unguarded():
        yield


@pytest.fixture(scope="session")
def rabbitmq():
    """A private RabbitMQ node, one for all tests. It runs again after a test that stopped it."""
    with _running(RabbitMQNode) as node:
        yield node


@pytest.fixture(autouse=True)
def _leave_rabbitmq_running(request):
    node = request.getfixturevalue("rabbitmq") if "rabbitmq" in request.fixturenames else None
    yield
    if node is not None:
        node.recover()


@pytest.fixture(scope="session")
def redis():
    """A private Redis server."""
    with _running(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql():
    """A private PostgreSQL cluster, where settings.DATABASES are."""
    from django.conf import settings

    if settings.DATABASE != "postgresql" and "TEST_DATABASE" in os.environ:
        pytest.skip(f"TEST_DATABASE is {settings.DATABASE}.")
    with _running(PostgreSQLCluster, int(settings.POSTGRESQL_PORT)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def mariadb():
    """A private MariaDB server."""
    from django.conf import settings

    with _running(MariaDBServer, int(settings.MARIADB_PORT)) as server:
        yield server


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request, django_db_modify_db_settings_parallel_suffix):
    """Have the server running before pytest-django creates the test databases in it."""
    from django.conf import settings

    if settings.DATABASE != "sqlite":
        request.getfixturevalue(settings.DATABASE)


@pytest.fixture(scope="session")
def _mariadb_databases(mariadb, django_db_setup, django_db_blocker):
    databases = {alias: make_mariadb_database(mariadb, alias) for alias in DATABASES}
    with django_db_blocker.unblock():
        return migrated(databases)


@pytest.fixture(scope="session")
def _sqlite_databases(tmp_path_factory, django_db_setup, django_db_blocker):
    folder = tmp_path_factory.mktemp("sqlite")
    databases = {alias: sqlite_database(folder / f"{alias}.sqlite3") for alias in DATABASES}
    with django_db_blocker.unblock():
        return migrated(databases)


@pytest.fixture
def engine(request, django_db_blocker):
    """Run the test on each engine: its databases are on that one; return the engine's name.

    For a test, or with `pytest.mark.usefixtures` for a module, that django_db is marked for. What is about
    some engines only has the marker `engines` with their names, or `postgresql`.
    """
    from django.conf import settings

    if request.param == settings.DATABASE:
        yield request.param
        return
    if request.param == "postgresql":
        request.getfixturevalue("postgresql")  # skips or fails
        pytest.fail("TEST_DATABASE is another engine.")
    with swapped(request.getfixturevalue(f"_{request.param}_databases")):
        yield request.param


@pytest.fixture
def counting_port():
    """A server that accepts and counts connections and never answers: port, url, count."""
    server = MuteServer()
    yield server
    server.close()


@pytest.fixture
def on_commit(request):
    """Where the messages of publish_on_commit() wait; a module or a class may say otherwise."""
    return getattr(request.cls, "on_commit", "memory")


@pytest.fixture
def no_broker(settings, counting_port, on_commit):
    """Have whatever were sent go to a port that counts, and see that nothing was."""
    settings.FASTSTREAM = {
        "default": {"URL": counting_port.url, "ON_COMMIT": on_commit},
        "other": {"URL": counting_port.url, "ON_COMMIT": on_commit, "MAX_MESSAGE_BYTES": 10},
    }
    yield
    assert counting_port.count == 0


@pytest.fixture
def unreachable_port():
    """A port on loopback where connections are refused."""
    with unused_port() as port:
        yield port


@pytest.fixture
def run_script(tmp_path):
    """Run a Python program with warnings as errors and return the subprocess.CompletedProcess.

    The program is source code, or a Path. It runs in tmp_path, with tests.settings on SQLite
    files there unless env says otherwise; a variable that is None in env is unset. A program that is
    not done in time fails the test with the tracebacks of its threads, and is killed with all it started.
    """
    sources = iter(range(1_000))

    def run(source_or_path, *arguments, timeout=30, env=None):
        path = source_or_path
        if not isinstance(path, Path):
            path = tmp_path / f"script{next(sources)}.py"
            path.write_text(textwrap.dedent(source_or_path))
        command = [sys.executable, "-X", "faulthandler", "-W", "error", path.resolve(), *arguments]
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_DATABASE": "sqlite",
            **(env or {}),
        }
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=tmp_path,
            env={name: value for name, value in variables.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            stdout, stderr = _dump_and_kill(process)
            pytest.fail(f"The program did not end in {timeout} s.\n{stdout}\n{stderr}")
        finally:
            _kill_group(process)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run


def _dump_and_kill(process):
    if process.poll() is None:
        process.send_signal(signal.SIGABRT)  # faulthandler answers with every thread's traceback
        try:
            return process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            pass
    _kill_group(process)
    return process.communicate()


def _kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


@contextlib.contextmanager
def _running(server_class, *arguments):
    try:
        server = server_class(*arguments)
    except MissingService as missing:
        # A laptop may do without; CI must not be green because it tested nothing.
        give_up = pytest.skip if os.environ.get("CI", "") in ("", "0", "false") else pytest.fail
        give_up(str(missing))
    with contextlib.closing(server):
        server.start()
        yield server
