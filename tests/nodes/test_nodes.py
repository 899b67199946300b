import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pymysql
import pytest
from django.db import connections

from tests.conftest import ROOT
from tests.nodes import MariaDBServer, OwnedProcess, PostgreSQLCluster, RabbitMQNode, free_port

OTHER_PORTS = ("RABBITMQ_DIST_PORT", "ERL_EPMD_PORT")


@pytest.fixture
def queue(rabbitmq):
    name = rabbitmq.declare_queue(f"nodes-{uuid.uuid4().hex}")
    yield name
    rabbitmq.recover()
    rabbitmq.delete_queue(name)


def test_drain_returns_the_messages_of_a_queue_in_order(rabbitmq, queue):
    rabbitmq.publish(b"one", queue, headers={"n": 1})
    rabbitmq.publish(b"two", queue, message_id="id-2")

    first, second = rabbitmq.drain(queue)

    assert (first.body, first.headers, first.routing_key) == (b"one", {"n": 1}, queue)
    assert (second.body, second.properties.message_id) == (b"two", "id-2")
    assert rabbitmq.count(queue) == 0


def test_an_exchange_routes_to_the_queue_bound_to_it(rabbitmq, queue):
    rabbitmq.declare_exchange("nodes-events", "topic")
    rabbitmq.bind(queue, "nodes-events", "order.*")

    rabbitmq.publish(b"x", "order.paid", exchange="nodes-events")
    rabbitmq.delete_exchange("nodes-events")

    (message,) = rabbitmq.drain(queue)
    assert (message.exchange, message.routing_key) == ("nodes-events", "order.paid")


def test_a_durable_message_is_there_after_stop_and_start(rabbitmq, queue):
    rabbitmq.publish(b"kept", queue)

    rabbitmq.stop()
    stopped = not rabbitmq.is_running
    rabbitmq.start()

    assert stopped
    assert [message.body for message in rabbitmq.drain(queue)] == [b"kept"]


def test_a_killed_node_refuses_connections_until_it_is_started(rabbitmq, queue):
    rabbitmq.publish(b"kept", queue)

    rabbitmq.kill()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", rabbitmq.port), timeout=1)
    rabbitmq.start()
    assert rabbitmq.count(queue) == 1


def test_a_paused_node_accepts_a_connection_and_says_nothing(rabbitmq):
    rabbitmq.pause()

    with socket.create_connection(("127.0.0.1", rabbitmq.port), timeout=0.2) as client:
        client.sendall(b"AMQP\x00\x00\x09\x01")
        with pytest.raises(TimeoutError):
            client.recv(1)

        rabbitmq.resume()

        client.settimeout(10)
        assert client.recv(1) == b"\x01"


def test_a_publisher_is_blocked_while_the_memory_alarm_is_on(rabbitmq, queue):
    def alarms():
        return rabbitmq.ctl("eval", "rabbit_alarm:get_alarms().").strip()

    with rabbitmq.memory_alarm():
        during = alarms()
    after = alarms()

    assert "memory" in during
    assert after == "[]"


def test_the_connections_of_clients_are_listed_and_closed(rabbitmq, queue):
    import pika

    parameters = pika.URLParameters(rabbitmq.url())
    parameters.client_properties = {"connection_name": "a client"}
    client = pika.BlockingConnection(parameters)
    local_port = client._impl._transport._sock.getsockname()[1]

    (listed,) = [each for each in rabbitmq.connections() if each.peer_port == local_port]
    rabbitmq.close_all_connections("enough")

    assert listed.user == "guest"
    assert listed.client_properties["connection_name"] == "a client"
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="enough"):
        client.process_data_events(time_limit=10)


def test_connection_whose_handshake_is_under_way_is_not_listed(rabbitmq):
    before = len(rabbitmq.connections())

    with socket.create_connection(("127.0.0.1", rabbitmq.port), timeout=10) as client:
        client.sendall(b"AMQP\x00\x00\x09\x01")
        assert client.recv(1) == b"\x01"  # Connection.Start, which is not answered
        during = len(rabbitmq.connections())

    assert during == before


def test_the_node_listens_on_loopback_only(rabbitmq):
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    if not tables[0].exists():
        pytest.skip("/proc/net/tcp is Linux's.")
    ours = {rabbitmq.port, *(int(rabbitmq._env[key]) for key in OTHER_PORTS)}

    listening = [
        line.split()[1].split(":")
        for table in tables
        if table.exists()
        for line in table.read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    addresses = {address for address, port in listening if int(port, 16) in ours}

    assert "0100007F" in addresses
    assert addresses <= {"0100007F", "00000000000000000000000001000000"}


def test_a_url_quotes_user_password_and_vhost(rabbitmq):
    assert rabbitmq.url().endswith(f"@127.0.0.1:{rabbitmq.port}/")
    assert rabbitmq.url("u:", "p@", "a/b") == f"amqp://u%3A:p%40@127.0.0.1:{rabbitmq.port}/a%2Fb"


def test_postgresql_answers_a_query(postgresql):
    with psycopg.connect(postgresql.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_mariadb_answers_a_query(mariadb):
    with contextlib.closing(
        pymysql.connect(host="127.0.0.1", port=mariadb.port, user="root", database="default")
    ) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_mariadb_leaves_no_files_behind():
    server = MariaDBServer(free_port())
    server.start()
    assert server.directory.exists()

    server.close()

    assert not server.directory.exists()


@pytest.mark.usefixtures("postgresql")
@pytest.mark.parametrize(("is_durable", "fsync"), [(False, "off"), (True, "on")])
def test_postgresql_syncs_what_is_committed_if_it_is_to_be_durable(is_durable, fsync):
    with contextlib.closing(PostgreSQLCluster(free_port(), is_durable=is_durable)) as cluster:
        cluster.start()

        assert cluster.setting("fsync") == fsync


@pytest.mark.usefixtures("rabbitmq")
def test_a_node_with_a_stomp_port_speaks_stomp():
    with contextlib.closing(RabbitMQNode(stomp_port=free_port())) as node:
        node.start()

        with socket.create_connection(("127.0.0.1", node.stomp_port), timeout=10) as client:
            client.sendall(b"CONNECT\nlogin:guest\npasscode:guest\naccept-version:1.2\nhost:/\n\n\0")
            assert client.recv(9) == b"CONNECTED"


@pytest.mark.postgresql
@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("alias", ["default", "other"])
def test_the_databases_of_django_are_on_postgresql(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT current_database()")

        (name,) = cursor.fetchone()

    assert name.partition("_gw")[0] == f"test_{alias}"


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_databases_of_a_test_are_on_each_engine_in_every_thread(engine):
    vendors = [connections[alias].vendor for alias in ("default", "other")]
    with ThreadPoolExecutor(1) as pool:
        vendors.append(pool.submit(lambda: connections["default"].vendor).result())

    assert vendors == ["mysql" if engine == "mariadb" else engine] * 3


def test_a_counting_port_counts_connections_and_stays_mute(counting_port):
    with socket.create_connection(("127.0.0.1", counting_port.port), timeout=0.1) as client:
        counting_port.wait_for(1)

        with pytest.raises(TimeoutError):
            client.recv(1)

    assert counting_port.count == 1


def test_an_unreachable_port_refuses_connections(unreachable_port):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", unreachable_port), timeout=1)


def test_run_script_returns_what_the_program_said(run_script):
    done = run_script(
        """
        import sys, warnings
        print(sys.argv[1])
        warnings.warn("an error here")
        """,
        "hello",
    )

    assert done.returncode == 1
    assert done.stdout == "hello\n"
    assert "UserWarning: an error here" in done.stderr


def test_run_script_has_django_with_a_database_of_its_own(run_script):
    done = run_script(
        """
        import django
        django.setup()
        from django.core.management import call_command
        from tests.test_app.models import Order
        call_command("migrate", verbosity=0)
        Order.objects.create(number=1)
        print(Order.objects.get().number)
        """
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_run_script_fails_with_tracebacks_when_the_program_hangs(run_script):
    with pytest.raises(pytest.fail.Exception, match=r"(?s)did not end in 1 s.*line 2 in <module>"):
        run_script("import threading\nthreading.Event().wait()", timeout=1)


def test_an_owned_process_ends_when_its_owner_is_killed():
    """SIGKILL leaves no time for fixtures and atexit: the watcher is what is left."""
    owner = """
        import os, pathlib, signal
        from tests.nodes import OwnedProcess
        log = pathlib.Path("/dev/stdout")
        OwnedProcess(["sleep", "100"], env=os.environ, directory=log.parent, log=log)
        os.kill(os.getpid(), signal.SIGKILL)
    """

    # The output ends when the last of its writers does, and sleep is one of them.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(owner)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=30,
        check=False,
    )

    assert done.returncode == -signal.SIGKILL


def test_an_owned_process_is_left_alone_by_a_fork(tmp_path):
    server = OwnedProcess(["sleep", "100"], env=os.environ, directory=tmp_path, log=tmp_path / "l")

    child = os.fork()
    if child == 0:
        server.kill()
        os._exit(0)
    os.waitpid(child, 0)

    assert server.is_running
    server.kill()
    assert not server.is_running


def test_what_is_missing_is_told_as_names_of_packages():
    missing = subprocess.check_output([sys.executable, "-m", "tests.nodes"], cwd=ROOT, text=True)

    assert set(missing.split()) <= {"rabbitmq-server", "postgresql", "mariadb-server", "redis-server"}
