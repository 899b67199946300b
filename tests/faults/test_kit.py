"""The kit itself: a ledger that overlooks a lie, or a proxy that lets all pass, would prove nothing."""

import socket
import time

import pytest

from faststream_django.exceptions import BrokerUnavailable, ConnectionLost
from tests.nodes import FaultProxy, Ledger, MuteServer

LOST, AWAY = ConnectionLost("lost"), BrokerUnavailable("away")


def ledger_of(*told, found=(), expected=(ConnectionLost, BrokerUnavailable)):
    """Make a ledger of messages 0, 1, ...: what each caller was told, None for a confirm."""
    ledger = Ledger(*expected)
    for number, error in enumerate(told):
        ledger.begin(str(number))
        ledger.end(str(number), error)
    for number in found:
        ledger.find(str(number))
    return ledger


@pytest.mark.parametrize(
    ("ledger", "violations"),
    [
        (ledger_of(None, LOST, LOST, AWAY, found=[0, 1]), {}),
        (ledger_of(None, None, found=[0]), {"lost": 1}),
        (ledger_of(None, found=[0, 0, 0]), {"duplicated": 2}),
        (ledger_of(AWAY, found=[0]), {"disowned": 1}),
        (ledger_of(None, found=[0, 7]), {"strays": 1}),
        (ledger_of(LOST, expected=[BrokerUnavailable]), {"wrong_class": 1}),
        (ledger_of(ValueError("no verdict at all")), {"wrong_class": 1}),
    ],
)
def test_ledger_tells_what_was_broken(ledger, violations):
    assert ledger.account().violations == violations


def test_call_that_does_not_end_hangs():
    ledger = ledger_of(None, found=[0])
    ledger.begin("1")

    assert ledger.account().violations == {"hung": 1}


def test_ghost_is_no_violation():
    account = ledger_of(LOST, found=[0]).account()

    assert (account.unknown, account.ghosts, account.violations) == (1, 1, {})


def test_message_that_is_published_again_after_a_false_refusal_is_a_duplicate():
    ledger = ledger_of(AWAY)
    refused = ledger.was_refused("0")
    with ledger.attempt("0"):
        pass
    ledger.find("0")
    ledger.find("0")

    assert refused
    assert not ledger.was_refused("0")
    assert ledger.account().violations == {"duplicated": 1}


def test_gap_ends_with_each_confirm_and_never_without_one():
    ledger, moment = Ledger(), time.monotonic()
    with ledger.attempt("0"):
        time.sleep(0.05)

    assert 0.05 <= ledger.longest_gap(moment) < 5
    assert ledger.longest_gap(time.monotonic()) == float("inf")


@pytest.fixture
def echo():
    """The client's end and the server's end of one connection through a proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = FaultProxy(listener.getsockname()[1])
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
        server, _ = listener.accept()
        server.settimeout(5)
        with client, server:
            client.sendall(b"hello")
            assert server.recv(10) == b"hello"
            yield proxy, client, server
        proxy.close()


def stays_silent(end):
    end.settimeout(0.1)
    try:
        return end.recv(10) == b"never"
    except TimeoutError:
        return True
    finally:
        end.settimeout(5)


def test_one_way_black_hole_lets_the_other_way_pass(echo):
    proxy, client, server = echo
    proxy.black_hole("client")
    server.sendall(b"held")
    client.sendall(b"passes")

    assert server.recv(10) == b"passes"
    assert stays_silent(client)
    proxy.heal()
    assert client.recv(10) == b"held"


def test_forgotten_connection_stays_dead_after_the_black_hole(echo):
    proxy, client, server = echo
    proxy.black_hole()
    proxy.forget()
    proxy.heal()
    client.sendall(b"x")

    assert stays_silent(server)


def test_delay_holds_everything_back_once(echo):
    proxy, client, server = echo
    proxy.delay = 0.2
    started = time.monotonic()
    client.sendall(b"a")
    time.sleep(0.1)
    client.sendall(b"b")

    assert server.recv(1) == b"a"
    assert 0.2 <= time.monotonic() - started < 0.29
    assert server.recv(1) == b"b"
    assert 0.3 <= time.monotonic() - started < 0.6


def test_mangled_bytes_come_instead_of_the_next_ones(echo):
    proxy, client, server = echo
    proxy.mangle("client", b"garbage")
    server.sendall(b"first")

    assert client.recv(10) == b"garbage"
    server.sendall(b"second")
    assert client.recv(10) == b"second"


def test_mute_proxy_accepts_and_says_nothing(echo):
    proxy, *_ = echo
    proxy.mute()

    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        assert stays_silent(client)
        proxy.heal()
        assert client.recv(10) == b""


def test_switch_breaks_connections_and_leads_new_ones_elsewhere(echo):
    proxy, client, _ = echo
    other = MuteServer()

    proxy.switch(other.port)

    with pytest.raises(ConnectionResetError):
        client.recv(10)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5):
        other.wait_for(1)
    other.close()
