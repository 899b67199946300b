"""Relays in processes of their own: who takes over when one is killed, frozen or told to end."""

import json
import signal
import sys
import time

import psycopg
import pytest

pytestmark = pytest.mark.postgresql
LEASE = 2.0
# Seconds beyond the lease, or beyond SIGTERM; the bars are 2 and 0.5 on a machine that does nothing else.
GRACE = 6.0

INSERT = """INSERT INTO faststream_outbox
(broker, state, ordering_key, message_id, exchange, routing_key, body, properties, created_at, attempts,
last_error) SELECT 'default', 0, %s, 'm' || n, '', %s, convert_to(n::text, 'UTF8'), %s, 0, 0, ''
FROM generate_series(%s::int, %s::int) n"""
PROPERTIES = '{"correlation_id":"c","timestamp":{"~":"datetime","v":"2026-01-01T00:00:00+00:00"}}'


class Site:
    """The relays of a site, its database and its queue."""

    def __init__(self, start, database, rabbitmq, queue):
        self._start = start
        self._database = database
        self._rabbitmq = rabbitmq
        self._queue = queue
        self._env = {
            "TEST_DATABASE": "postgresql",
            "TEST_FASTSTREAM_URL": rabbitmq.url(),
            "TEST_FASTSTREAM": json.dumps({"ON_COMMIT": "outbox", "OUTBOX": {"LEASE": LEASE}}),
        }

    def command(self, *arguments, **env):
        return self._start(
            sys.executable, "-X", "faulthandler", "-m", "django", *arguments, env={**self._env, **env}
        )

    def relay(self, *arguments):
        return self.command("faststream_relay", "--database", "default", *arguments)

    def execute(self, sql, *parameters):
        with psycopg.connect(self._database, autocommit=True) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def insert(self, first, last, key="a"):
        self.execute(INSERT, key, self._queue, PROPERTIES, first, last)

    @property
    def leader(self):
        rows = self.execute("SELECT holder FROM faststream_outbox_lease WHERE holder <> ''")
        return int(rows[0][0].split(":")[1]) if rows else None

    @property
    def waiting(self):
        return self.execute("SELECT count(*) FROM faststream_outbox")[0][0]

    def arrived(self):
        return [int(each.body) for each in self._rabbitmq.drain(self._queue)]


@pytest.fixture
def site(start, postgresql, rabbitmq, queue):
    site = Site(start, postgresql.url(), rabbitmq, queue)
    assert site.command("migrate", "--verbosity", "0").wait(60) == 0
    site.execute("TRUNCATE faststream_outbox, faststream_outbox_lease")
    return site


@pytest.fixture
def pair(site):
    """Return the relay that leads and the one that stands by."""
    first = site.relay()
    first.wait_until(lambda: site.leader == first.pid)
    second = site.relay()
    second.said("Relaying")
    return first, second


@pytest.mark.parametrize(
    ("number", "patience"), [(signal.SIGKILL, LEASE), (signal.SIGSTOP, LEASE), (signal.SIGTERM, 0.0)]
)
def test_relay_that_stands_by_takes_over(site, pair, number, patience):
    leader, other = pair
    site.insert(0, 999)
    leader.wait_until(lambda: site.waiting < 1000)

    leader.send(number)
    began = time.monotonic()
    other.wait_until(lambda: site.leader == other.pid)
    took = time.monotonic() - began
    site.insert(1000, 1009)
    other.wait_until(lambda: not site.waiting)
    if number == signal.SIGSTOP:
        leader.send(signal.SIGCONT)
        site.insert(1010, 1019)
        other.wait_until(lambda: not site.waiting)

    assert took < patience + GRACE
    arrived = site.arrived()
    firsts = list(dict.fromkeys(arrived))
    assert firsts == list(range(len(firsts)))
    assert len(firsts) == (1020 if number == signal.SIGSTOP else 1010)
    assert site.leader == other.pid


def test_relay_ends_with_sigterm_and_leaves_its_lease(site):
    relay = site.relay()
    relay.wait_until(lambda: site.leader == relay.pid)

    code, _ = relay.terminate()

    assert code == 0
    assert "Stopped." in relay.out
    assert site.leader is None
    assert relay.complaints == []


def test_broker_that_comes_back_gets_what_waited(site, rabbitmq):
    relay = site.relay()
    relay.wait_until(lambda: site.leader == relay.pid)
    site.insert(0, 9)
    relay.wait_until(lambda: not site.waiting)

    rabbitmq.kill()
    site.insert(10, 299)
    rabbitmq.start()
    relay.wait_until(lambda: not site.waiting, timeout=60)

    assert list(dict.fromkeys(site.arrived())) == list(range(300))
    assert relay.terminate()[0] == 0


def test_once_sends_what_is_due_and_ends(site):
    site.insert(0, 1499, key="")

    relay = site.relay("--once", "--batch-size", "200")

    assert relay.wait() == 0
    assert "Sent what was due." in relay.out
    assert sorted(site.arrived()) == list(range(1500))
    assert site.leader is None


def test_once_says_that_the_broker_is_away(site, unreachable_port):
    site.insert(0, 0)

    relay = site.command(
        "faststream_relay",
        "--once",
        "--database",
        "default",
        TEST_FASTSTREAM_URL=f"amqp://127.0.0.1:{unreachable_port}",
    )

    assert relay.wait() == 1
    assert "BrokerUnavailable" in relay.err
    assert site.waiting == 1


def test_liveness_file_is_touched_while_the_database_answers(site, tmp_path):
    file = tmp_path / "alive"
    relay = site.relay("--liveness", file)
    relay.wait_until(file.exists)
    first = file.stat().st_mtime

    relay.wait_until(lambda: file.stat().st_mtime > first)


def test_worker_relays_what_its_handlers_and_others_store(site, tmp_path):
    (tmp_path / "consuming").mkdir()
    (tmp_path / "consuming" / "__init__.py").touch()
    (tmp_path / "consuming" / "subscribers.py").write_text(
        "from faststream.rabbit import RabbitRouter\n"
        "router = RabbitRouter()\n"
        "@router.subscriber('relayed')\n"
        "def handle(body: int):\n"
        "    print('handled', body, flush=True)\n"
    )
    (tmp_path / "consuming_settings.py").write_text(
        "from tests.processes.settings import *\n"
        "INSTALLED_APPS = [*INSTALLED_APPS, 'consuming']\n"
        "DATABASES = {'default': DATABASES['default']}\n"
    )
    worker = site.command("faststream_worker", "--relay", DJANGO_SETTINGS_MODULE="consuming_settings")
    worker.said("Consuming")

    site.execute(INSERT, "a", "relayed", PROPERTIES, 1, 3)

    worker.wait_until(lambda: len(worker.all_said("handled ")) == 3)
    assert sorted(worker.all_said("handled ")) == ["1", "2", "3"]  # its handlers run side by side
    assert worker.terminate()[0] == 0
    assert site.leader is None


def test_server_relays_for_its_embedded_broker(site, serve):
    entry = {"URL": "memory://", "ON_COMMIT": "outbox", "QUEUES": {"relayed": {}}}
    server = serve(
        sys.executable,
        "-m",
        "django",
        "runserver",
        "--noreload",
        "127.0.0.1:PORT",
        env={"TEST_DATABASE": "postgresql", "TEST_FASTSTREAM": json.dumps(entry)},
    )

    site.execute(INSERT, "a", "relayed", PROPERTIES, 1, 3)
    server.wait_until(lambda: not site.waiting)
    assert site.leader == server.pid

    server.send(signal.SIGINT)
    server.wait()
    assert site.leader is None
