"""Who gets in, what is encrypted, what is shown: on a real node, with real failures."""

import asyncio
import contextlib
import datetime as dt
import pickle
import re
import socket
import ssl
import warnings
from urllib.parse import quote

import pytest
import trustme
from faststream.rabbit import RabbitBroker
from faststream.security import BaseSecurity, SASLPlaintext

from faststream_django import brokers
from faststream_django.backends.rabbit import RabbitBackend
from faststream_django.checks import check_deployment
from faststream_django.conf.topology import ExchangeSettings, QueueSettings
from faststream_django.exceptions import BrokerRefused, BrokerUnavailable, MessageRejected, MessageUnroutable
from faststream_django.messages import Message
from faststream_django.sync import SyncBroker
from tests.nodes import FaultProxy
from tests.test_secrets import PASSWORD, QUOTED, SECRET, everything_logged, failure, inside, leaks, told

USER = "shopkeeper"
OTHER = f"other-{SECRET}"


@pytest.fixture(scope="module")
def account(rabbitmq):
    """A user whose password has every character that a URL must quote."""
    rabbitmq.recover()
    rabbitmq.ctl("add_user", USER, PASSWORD)
    rabbitmq.ctl("set_permissions", USER, ".*", ".*", ".*")
    yield USER
    rabbitmq.recover()
    rabbitmq.ctl("delete_user", USER)


def everything(connection):
    """Publish in each way, all of which fail; return the errors."""
    message = Message.encode(b"x", "orders")
    result = connection.send_many([message, message], 1.0)
    return [
        failure(connection.send, message, 1.0),
        failure(connection.send, message, 1.0),
        *result.errors.values(),
    ]


# What a failure shows


@pytest.fixture
def fail(connect, rabbitmq, account, unreachable_port, monkeypatch, tls_server):
    """Return a connection that fails in the way that is asked for."""

    def refuse_the_name(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    def make(fault):
        url = rabbitmq.url(account, PASSWORD)
        if fault == "unreachable":
            url = url.replace(f":{rabbitmq.port}", f":{unreachable_port}")
        elif fault == "wrong password":
            url = rabbitmq.url(account, OTHER)
        elif fault == "wrong user":
            url = rabbitmq.url("nobody", PASSWORD)
        elif fault == "wrong vhost":
            url = rabbitmq.url(account, PASSWORD, "absent")
        elif fault == "security object":
            url = rabbitmq.url()
            return connect(url, options={"security": SASLPlaintext(account, OTHER)})
        elif fault == "certificate":
            url = f"amqps://{account}:{QUOTED}@localhost:{tls_server().port}/"
        elif fault == "certificate file":
            url = f"amqps://{account}:{QUOTED}@localhost:{tls_server().port}/?cafile=/no/such/file"
        elif fault == "TLS to a plain port":
            url = url.replace("amqp:", "amqps:")
        elif fault == "DNS":
            url = f"amqp://{account}:{QUOTED}@rabbit.invalid/"
            monkeypatch.setattr(socket, "getaddrinfo", refuse_the_name)
        return connect(url)

    return make


FAULTS = {
    "unreachable": BrokerUnavailable,
    "wrong password": BrokerRefused,
    "wrong user": BrokerRefused,
    "wrong vhost": BrokerRefused,
    "security object": BrokerRefused,
    "certificate": BrokerRefused,
    "certificate file": BrokerRefused,
    "TLS to a plain port": BrokerRefused,
    "DNS": BrokerUnavailable,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_to_connect_shows_no_password(fail, fault):
    with everything_logged() as records:
        connection = fail(fault)
        errors = everything(connection)
        shown = inside(connection, errors)
        connection.stop()

    assert {type(error) for error in errors} == {FAULTS[fault]}
    assert any("state=unavailable" in line for line in records.lines)
    assert leaks(records.text + shown + "".join(map(told, errors))) == []
    assert not any(SECRET.encode() in pickle.dumps(error) for error in errors)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_error_of_a_backend_shows_no_password(fail, fault):
    """The worker raises it as it is, with the frames of the driver."""
    settings = fail(fault).settings

    async def connect():
        try:
            await RabbitBackend(settings).connect(settings.urls[0])
        except BrokerUnavailable as error:
            return error

    error = asyncio.run(connect())

    assert type(error) is FAULTS[fault]
    assert leaks(told(error)) == []


@pytest.mark.parametrize("fault", ["wrong password", "wrong vhost", "no exchange", "no queue"])
def test_the_error_page_of_a_view_shows_no_password(client, settings, rabbitmq, account, fault):
    url = rabbitmq.url(account, OTHER if fault == "wrong password" else PASSWORD)
    settings.FASTSTREAM = {"default": {"URL": f"{url}absent" if fault == "wrong vhost" else url}}
    settings.DEBUG = True
    settings.ROOT_URLCONF = "tests.test_secrets"
    client.raise_request_exception = False
    view = "publish" if fault != "no exchange" else "exchange"

    page = client.get(f"/{view}/")
    brokers.stop()

    assert page.status_code == 500
    text = page.content.decode()
    assert ("MessageUnroutable" if fault.startswith("no") else "BrokerRefused") in text
    assert "amqp://shopkeeper:***@" in text
    assert leaks(text) == []


def test_a_working_connection_shows_no_password(connect, rabbitmq, account, queue):
    """Also when it is lost, and when the broker says no to a message."""
    with everything_logged() as records:
        connection = connect(rabbitmq.url(account, PASSWORD))
        sync = SyncBroker(RabbitBroker(rabbitmq.url(account, PASSWORD)))
        connection.send(Message.encode(b"x", queue))
        sync.publish(b"x", queue)
        errors = [
            failure(connection.send, Message.encode(b"x", exchange="absent")),
            failure(connection.send, Message.encode(b"x", "absent")),
        ]
        rabbitmq.close_all_connections()
        connection.send(Message.encode(b"x", queue))
        shown = inside(connection, sync)
        sync.stop()
        connection.stop()

    assert {type(error) for error in errors} == {MessageUnroutable}
    assert "RabbitSession" in shown
    assert leaks(records.text + shown + "".join(map(told, errors))) == []


def test_the_node_and_its_lists_show_no_password(connect, rabbitmq, account, queue):
    connection = connect(rabbitmq.url(account, PASSWORD))
    connection.send(Message.encode(b"x", queue))
    failure(connect(rabbitmq.url(account, OTHER)).send, Message.encode(b"x", queue), 1.0)
    failure(connect(rabbitmq.url(account, PASSWORD, "absent")).send, Message.encode(b"x", queue), 1.0)

    columns = ["name", "user", "vhost", "auth_mechanism", "client_properties", "host", "peer_host", "state"]
    listed = rabbitmq.ctl("list_connections", *columns)
    logs = "".join(path.read_text() for path in (rabbitmq.directory / "log").glob("*.log"))

    assert account in listed
    assert "faststream_django default pid=" in listed
    assert leaks(listed) == []
    assert account in logs
    assert leaks(logs) == []


WORKER = """
import logging, sys
from django.core.management import execute_from_command_line

logging.basicConfig(level=1)
execute_from_command_line(["manage.py", "faststream_worker", "--traceback"])
"""
SITE = """
import os

from tests.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
FASTSTREAM = {"default": {"URL": os.environ["TEST_FASTSTREAM_URL"], "SHUTDOWN_TIMEOUT": 1}}
"""
SUBSCRIBERS = """
from faststream.rabbit import RabbitRouter

router = RabbitRouter()


@router.subscriber("security-worker")
def receive(body: bytes):
    print("received", flush=True)
    raise LookupError("a handler that fails")
"""


@pytest.fixture
def run_worker(run_script, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "subscribers.py").write_text(SUBSCRIBERS)
    (tmp_path / "site_settings.py").write_text(SITE)

    def run(url, program=WORKER):
        environment = {"DJANGO_SETTINGS_MODULE": "site_settings", "TEST_FASTSTREAM_URL": url}
        return run_script(program, env=environment)

    return run


@pytest.mark.parametrize("fault", ["password", "vhost"])
def test_a_worker_that_is_refused_shows_no_password(run_worker, rabbitmq, account, fault):
    url = rabbitmq.url(account, OTHER) if fault == "password" else rabbitmq.url(account, PASSWORD, "absent")

    done = run_worker(url)

    assert done.returncode
    assert "refused" in done.stderr
    assert leaks(done.stdout + done.stderr) == []


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def authority_file(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@pytest.fixture
def tls_server(rabbitmq, authority):
    """Start proxies that speak TLS in front of the node, by default as they should."""
    with contextlib.ExitStack() as stack:

        def start(name="localhost", *, prepare=lambda context: None, **certificate):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name, **certificate).configure_cert(context)
            prepare(context)
            proxy = FaultProxy(rabbitmq.port, tls=context)
            stack.callback(proxy.close)
            return proxy

        yield start


def tls_url(server, host="localhost", **parameters):
    query = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
    return f"amqps://guest:guest@{host}:{server.port}/?{query}"


def old_tls(context):
    """Have a server speak TLS 1.1 and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


def expired():
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


def test_a_certificate_of_a_known_authority_is_accepted(connect, rabbitmq, queue, tls_server, authority_file):
    connect(tls_url(tls_server(), cafile=authority_file)).send(Message.encode(b"x", queue))

    assert len(rabbitmq.drain(queue)) == 1


@pytest.mark.parametrize(
    ("server", "parameters", "reason"),
    [
        ({}, {"cafile": None}, "certificate verify failed: (self-signed|unable to get)"),
        ({"name": "other.example"}, {}, "Hostname mismatch"),
        ({"not_after": "expired"}, {}, "certificate has expired"),
        ({"prepare": old_tls}, {}, "protocol version"),
    ],
    ids=["unknown authority", "other host name", "expired", "TLS 1.1"],
)
def test_a_server_that_cannot_prove_who_it_is_is_refused(
    connect, tls_server, authority_file, server, parameters, reason
):
    if "not_after" in server:
        server = {"not_after": expired()}
    query = {"cafile": authority_file} | parameters
    url = tls_url(tls_server(**server), **{name: value for name, value in query.items() if value})

    error = failure(connect(url).send, Message.encode(b"x", "orders"), 5.0)

    assert type(error) is BrokerRefused
    assert not error.maybe_sent
    assert re.search(f"TLS failed: .*{reason}", str(error))


@pytest.mark.parametrize("server", [{}, {"name": "other.example"}, {"not_after": "expired"}])
def test_only_an_explicit_parameter_accepts_any_certificate(
    connect, rabbitmq, queue, tls_server, settings, server
):
    if "not_after" in server:
        server = {"not_after": expired()}
    server = tls_server(**server)

    connect(tls_url(server, no_verify_ssl=1)).send(Message.encode(b"x", queue))
    refused = failure(connect(tls_url(server, no_verify_ssl=0)).send, Message.encode(b"y", queue), 5.0)
    settings.FASTSTREAM = {
        "insecure": {"URL": tls_url(server, no_verify_ssl=1).replace("guest:guest", f"shop:{QUOTED}")},
        "secure": {"URL": tls_url(server, no_verify_ssl=0).replace("guest:guest", f"shop:{QUOTED}")},
    }

    assert len(rabbitmq.drain(queue)) == 1
    assert type(refused) is BrokerRefused
    messages = check_deployment()
    assert [message.id for message in messages] == ["faststream_django.W004"]
    assert "FASTSTREAM['insecure']" in messages[0].msg


def test_a_security_object_verifies_too(connect, rabbitmq, queue, tls_server, authority_file):
    server = tls_server()
    url = tls_url(server).replace("amqps", "amqp")
    trusting = ssl.create_default_context(cafile=authority_file)

    connect(url, options={"security": BaseSecurity(trusting)}).send(Message.encode(b"x", queue))
    refused = failure(
        connect(url, options={"security": BaseSecurity(use_ssl=True)}).send, Message.encode(b"y", queue), 5.0
    )

    assert len(rabbitmq.drain(queue)) == 1
    assert type(refused) is BrokerRefused


def test_the_server_of_these_tests_would_speak_old_tls(tls_server):
    """So that it is our client that refuses it."""
    server = tls_server(prepare=old_tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    old_tls(context)

    with socket.create_connection(("127.0.0.1", server.port)) as plain, context.wrap_socket(plain) as secure:
        assert secure.version() == "TLSv1.1"


# Least privilege


@pytest.fixture
def writer(rabbitmq):
    """A user who may do nothing but write to the exchange "allowed"."""
    rabbitmq.ctl("add_user", "writer", PASSWORD)
    rabbitmq.ctl("set_permissions", "writer", "", "^allowed$", "")
    rabbitmq.declare_exchange("allowed", "fanout")
    yield rabbitmq.url("writer", PASSWORD)
    rabbitmq.recover()
    rabbitmq.delete_exchange("allowed")
    rabbitmq.ctl("delete_user", "writer")


@pytest.mark.parametrize("declare", [False, "passive"])
def test_a_user_who_may_only_write_publishes(connect, rabbitmq, queue, writer, declare):
    rabbitmq.bind(queue, "allowed")
    connection = connect(
        writer,
        declare=declare,
        exchanges=(ExchangeSettings(name="allowed", type="fanout"),),
        queues=(QueueSettings(name=queue),),
    )

    with everything_logged() as records:
        connection.send(Message.encode(b"x", exchange="allowed"))
        error = failure(connection.send, Message.encode(b"y", queue))
        connection.send(Message.encode(b"z", exchange="allowed"))

    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x", b"z"]
    assert type(error) is MessageRejected
    assert "access to exchange" in str(error)
    assert leaks(records.text + told(error)) == []
    assert not any("ACCESS_REFUSED" in line for line in records.lines if "declare=" in line)


def test_a_user_who_may_only_write_is_told_what_declaring_needs(connect, rabbitmq, queue, writer):
    rabbitmq.bind(queue, "allowed")
    connection = connect(writer, queues=(QueueSettings(name=queue),))

    with everything_logged() as records:
        connection.send(Message.encode(b"x", exchange="allowed"))

    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"x"]
    assert any("declare=" in line and "ACCESS_REFUSED" in line for line in records.lines)


# Injection


def test_the_words_of_the_broker_cannot_forge_a_line_of_the_log(connect, rabbitmq, queue):
    connection = connect(rabbitmq.url())
    connection.send(Message.encode(b"x", queue))

    with everything_logged() as records:
        rabbitmq.close_all_connections("gone\nCRITICAL state=forged")
        connection.send(Message.encode(b"y", queue))

    assert any("state=forged" in line for line in records.lines)
    assert [line for line in records.lines if not line.isprintable()] == []
