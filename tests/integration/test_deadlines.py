"""Every call ends in time and says truly what is known about its message."""

import asyncio
import http.server
import queue as queues
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from faststream.security import SASLPlaintext

from faststream_django.backends.base import Publication
from faststream_django.exceptions import (
    BrokerBlocked,
    BrokerRefused,
    BrokerUnavailable,
    ConnectionLost,
    PublishError,
    PublishTimeout,
)
from faststream_django.loop import loop_thread
from faststream_django.messages import Message
from tests.integration.test_rabbitmq import wait_until
from tests.nodes import FaultProxy

# publish(timeout=1) ends within 1.2 s; a machine that does much else takes longer, and less than the
# CONNECT_TIMEOUT and TIMEOUT of the connection.
LIMIT, BAR = 1.0, 2.5


@pytest.fixture
def fails_in_time():
    """Send with a timeout of one second and return the error, which must come within the bar."""

    def send(connection, message):
        started = time.monotonic()
        with pytest.raises(PublishError) as caught:
            connection.send(message, timeout=LIMIT)
        assert time.monotonic() - started <= BAR
        return caught.value

    return send


def test_unreachable_broker_is_unavailable(connect, fails_in_time, unreachable_port):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/")

    error = fails_in_time(connection, Message.encode(b"x", "orders"))

    assert type(error) is BrokerUnavailable
    assert not error.maybe_sent
    assert "not connected for" in str(error)
    assert "Connect call failed" in str(error) or "Connection refused" in str(error)


def test_mute_server_is_unavailable(connect, fails_in_time, counting_port):
    connection = connect(counting_port.url, connect_timeout=0.5)

    error = fails_in_time(connection, Message.encode(b"x", "orders"))

    assert type(error) is BrokerUnavailable
    assert not error.maybe_sent
    assert "CONNECT_TIMEOUT" in str(error)


def test_host_that_does_not_exist_is_unavailable(connect, fails_in_time):
    error = fails_in_time(connect("amqp://guest:guest@no-such-host.invalid/"), Message.encode(b"x", "orders"))

    assert type(error) is BrokerUnavailable


def test_web_server_is_not_taken_for_a_broker(connect, fails_in_time):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *args: None
    threading.Thread(target=server.serve_forever, daemon=True).start()

    error = fails_in_time(
        connect(f"amqp://guest:guest@127.0.0.1:{server.server_port}/"), Message.encode(b"x", "orders")
    )
    server.shutdown()
    server.server_close()

    assert type(error) is BrokerUnavailable
    assert not error.maybe_sent


def test_wrong_password_is_refused_at_once_without_showing_it(connect, rabbitmq, caplog):
    connection = connect(rabbitmq.url("guest", "not-the-password"))

    started = time.monotonic()
    with pytest.raises(BrokerRefused, match="refused the credentials") as caught:
        connection.send(Message.encode(b"x", "orders"), timeout=30)

    assert time.monotonic() - started < 8
    assert not caught.value.maybe_sent
    assert "not-the-password" not in str(caught.value) + caplog.text + repr(connection)


def test_missing_virtual_host_is_refused_in_the_words_of_the_broker(connect, rabbitmq):
    connection = connect(rabbitmq.url(vhost="no-such-vhost"))

    with pytest.raises(BrokerRefused, match="vhost no-such-vhost not found"):
        connection.send(Message.encode(b"x", "orders"), timeout=30)


def test_refused_connection_heals_by_itself(connect, rabbitmq, queue):
    rabbitmq.ctl("add_user", "late", "first-password")
    rabbitmq.ctl("set_permissions", "late", ".*", ".*", ".*")
    connection = connect(rabbitmq.url("late", "second-password"))
    with pytest.raises(BrokerRefused):
        connection.send(Message.encode(b"x", queue))

    rabbitmq.ctl("change_password", "late", "second-password")
    wait_until(lambda: connection.is_connected or not _still_refused(connection, queue))

    connection.send(Message.encode(b"y", queue))
    rabbitmq.ctl("delete_user", "late")


def _still_refused(connection, queue):
    try:
        connection.send(Message.encode(b"retry", queue), timeout=2)
    except BrokerUnavailable:  # BrokerRefused, or no attempt was made in time since the password changed
        return True
    return False


@pytest.fixture
def tls_proxy(rabbitmq):
    """Return the authority, and a proxy that speaks TLS with its certificate for 127.0.0.1."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    proxy = FaultProxy(rabbitmq.port, tls=context)
    yield authority, proxy
    proxy.close()


def test_tls_connection_with_a_known_authority_publishes(connect, rabbitmq, queue, tls_proxy, tmp_path):
    authority, proxy = tls_proxy
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    connection = connect(f"amqps://guest:guest@127.0.0.1:{proxy.port}/?cafile={tmp_path / 'ca.pem'}")

    connection.send(Message.encode(b"x", queue))

    assert len(rabbitmq.drain(queue)) == 1


def test_unknown_certificate_is_refused(connect, tls_proxy):
    _, proxy = tls_proxy
    connection = connect(f"amqps://guest:guest@127.0.0.1:{proxy.port}/")

    with pytest.raises(BrokerRefused, match="TLS failed") as caught:
        connection.send(Message.encode(b"x", "orders"), timeout=30)

    assert not caught.value.maybe_sent


def test_certificate_file_that_does_not_exist_is_refused(connect, tls_proxy):
    _, proxy = tls_proxy
    connection = connect(f"amqps://guest:guest@127.0.0.1:{proxy.port}/?cafile=/no/such/file.pem")

    with pytest.raises(BrokerRefused, match="TLS file"):
        connection.send(Message.encode(b"x", "orders"), timeout=30)


def test_security_of_faststream_gives_the_credentials(connect, rabbitmq, queue):
    security = SASLPlaintext(username="guest", password="guest")
    connection = connect(rabbitmq.url("nobody", "nothing"), options={"security": security})

    connection.send(Message.encode(b"x", queue))

    assert rabbitmq.connections()[0].user == "guest"


def test_heartbeat_finds_an_idle_connection_dead(connect, queue, proxy):
    connection = connect(proxy.url, heartbeat=1)
    connection.send(Message.encode(b"x", queue))

    proxy.black_hole()
    wait_until(lambda: not connection.is_connected, timeout=15)
    proxy.heal()

    connection.send(Message.encode(b"y", queue))


def test_black_hole_leaves_the_outcome_unknown(connect, fails_in_time, proxy, queue, rabbitmq):
    connection = connect(proxy.url)
    connection.send(Message.encode(b"before", queue))
    proxy.black_hole()

    error = fails_in_time(connection, Message.encode(b"x", queue))
    proxy.heal()
    connection.send(Message.encode(b"after", queue))

    assert type(error) is PublishTimeout
    assert error.maybe_sent
    bodies = [stored.body for stored in rabbitmq.drain(queue)]
    assert bodies[0] == b"before"
    assert bodies[-1] == b"after"


def test_paused_node_leaves_the_outcome_unknown(connect, fails_in_time, rabbitmq, queue):
    connection = connect(rabbitmq.url())
    connection.send(Message.encode(b"x", queue))
    rabbitmq.pause()

    error = fails_in_time(connection, Message.encode(b"y", queue))
    rabbitmq.resume()
    connection.send(Message.encode(b"z", queue))

    assert type(error) is PublishTimeout
    assert error.maybe_sent


def test_bulk_that_was_given_up_does_not_hold_up_the_end(connect, unreachable_port):
    """Its caller left while the loop was blocked, so the loop has to find out by itself."""
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/", shutdown_timeout=10.0)
    connection.start()

    async def block():
        time.sleep(1.5)  # noqa: ASYNC251 - what a middleware must not do

    with ThreadPoolExecutor(1) as thread:
        bulk = thread.submit(connection.send_many, [Message.encode(b"x", "orders")] * 3, 0.5)
        wait_until(lambda: connection._courier is not None and connection._courier._window.count == 3)
        loop_thread.submit(block)
        errors = bulk.result().errors
    started = time.monotonic()
    connection.stop()

    assert len(errors) == 3
    assert not any(error.maybe_sent for error in errors.values())
    assert time.monotonic() - started < 8


def test_blocked_broker_is_told_and_nothing_is_sent(connect, fails_in_time, rabbitmq, queue):
    """RabbitMQ says connection.blocked with the first publish that it does not take any more."""
    connection = connect(rabbitmq.url())
    connection.send(Message.encode(b"before", queue))

    with rabbitmq.memory_alarm():
        first = fails_in_time(connection, Message.encode(b"first", queue))
        second = fails_in_time(connection, Message.encode(b"second", queue))
    connection.send(Message.encode(b"after", queue))

    assert (type(first), first.maybe_sent) == (PublishTimeout, True)
    assert (type(second), second.maybe_sent) == (BrokerBlocked, False)
    bodies = [stored.body for stored in rabbitmq.drain(queue)]
    assert b"second" not in bodies
    assert bodies[0] == b"before"
    assert bodies[-1] == b"after"


def test_lost_connection_while_waiting_leaves_the_outcome_unknown(connect, proxy, queue, rabbitmq):
    connection = connect(proxy.url)
    connection.send(Message.encode(b"before", queue))
    proxy.black_hole()
    outcome = []

    def publish():
        try:
            connection.send(Message.encode(b"x", queue), timeout=10)
        except PublishError as error:
            outcome.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    wait_until(lambda: connection._courier._window.count == 1)
    proxy.reset()
    proxy.heal()
    thread.join(5)

    [error] = outcome
    assert type(error) is ConnectionLost
    assert error.maybe_sent
    connection.send(Message.encode(b"after", queue))


def test_message_that_a_reset_socket_refuses_goes_out_on_the_next_connection(connect, proxy, queue, rabbitmq):
    """The kernel knows of the reset, the loop does not yet: what it is given now is certainly not sent."""
    connection = connect(proxy.url)
    connection.send(Message.encode(b"before", queue))
    outcome = queues.SimpleQueue()
    publication = Publication(Message.encode(b"x", queue), "default", timeout=30.0)

    async def publish_after_reset():
        proxy.reset()
        connection.courier_here().send(publication, lambda _, error: outcome.put(error))

    loop_thread.run(publish_after_reset, timeout=30)

    assert outcome.get(timeout=30) is None
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"before", b"x"]


def test_bulk_stops_when_there_is_no_progress(connect, unreachable_port):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/")
    taken = []

    def messages():
        for number in range(100_000):
            taken.append(number)
            yield Message.encode(b"x", "orders")

    started = time.monotonic()
    result = connection.send_many(messages(), timeout=LIMIT)

    assert time.monotonic() - started < 2 * BAR + 0.5
    assert result.confirmed == 0
    assert {type(error) for error in result.errors.values()} == {BrokerUnavailable}
    assert result.stopped_at is not None
    assert len(taken) < 1000


async def _apublish(connection, message):
    await connection.asend(message, timeout=LIMIT)


def test_async_callers_have_the_same_deadline(connect, unreachable_port):
    connection = connect(f"amqp://guest:guest@127.0.0.1:{unreachable_port}/")

    async def publish_ten():
        calls = (_apublish(connection, Message.encode(b"x", "orders")) for _ in range(10))
        return await asyncio.gather(*calls, return_exceptions=True)

    started = time.monotonic()
    outcomes = asyncio.run(publish_ten())

    assert time.monotonic() - started <= BAR
    assert {type(outcome) for outcome in outcomes} == {BrokerUnavailable}
    assert len({id(outcome) for outcome in outcomes}) == 10
