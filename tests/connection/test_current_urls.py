"""URLs and passwords that a function of the site gives for each connection."""

import asyncio
import threading
import time

import pytest

from faststream_django.backends.base import Backend
from faststream_django.conf import broker_settings_from
from faststream_django.connection import Connection
from faststream_django.connection.current_urls import CurrentURLs
from faststream_django.exceptions import BrokerUnavailable, InvalidBroker
from faststream_django.messages import Message

TOKEN = "t0ken/ä"
QUOTED = "t0ken%2F%C3%A4"


def settings(**entry):
    return broker_settings_from("default", entry)


def read(**entry):
    return asyncio.run(CurrentURLs(settings(**entry)).read())


def raising():
    raise LookupError(f"no access with {TOKEN}")


@pytest.mark.parametrize(
    ("entry", "urls"),
    [
        ({"URL": "amqp://me:pw@host/"}, ["amqp://me:pw@host/"]),
        ({"URL": "amqp://me@host/shop?name=x", "PASSWORD": TOKEN}, [f"amqp://me:{QUOTED}@host/shop?name=x"]),
        (
            {"URL": ["amqp://me@a", "amqp://me@b:1//"], "PASSWORD": "x"},
            ["amqp://me:x@a", "amqp://me:x@b:1//"],
        ),
        ({"URL": "amqps://me@[::1]:5671/", "PASSWORD": lambda: TOKEN}, [f"amqps://me:{QUOTED}@[::1]:5671/"]),
        ({"URL": lambda: "amqp://me:pw@host/"}, ["amqp://me:pw@host/"]),
        ({"URL": lambda: ["amqp://me:pw@a/", "amqp://me:pw@b/"]}, ["amqp://me:pw@a/", "amqp://me:pw@b/"]),
        ({"URL": lambda: "amqp://me@host/", "PASSWORD": lambda: "x"}, ["amqp://me:x@host/"]),
        ({"URL": lambda: "amqp://me@host/", "PASSWORD": "x"}, ["amqp://me:x@host/"]),
    ],
)
def test_urls_of_the_moment(entry, urls):
    assert list(read(**entry)) == urls


def test_function_is_called_for_each_connection():
    tokens = iter(["first", "second"])
    urls = CurrentURLs(settings(URL="amqp://me@host/", PASSWORD=lambda: next(tokens)))

    async def read_twice():
        return [*await urls.read(), *await urls.read()]

    assert asyncio.run(read_twice()) == ["amqp://me:first@host/", "amqp://me:second@host/"]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"PASSWORD": raising}, "FASTSTREAM['default']['PASSWORD']: raised LookupError"),
        ({"PASSWORD": lambda: None}, "['PASSWORD']: must return a str that is not empty"),
        ({"PASSWORD": lambda: b"x"}, "['PASSWORD']: must return a str that is not empty"),
        ({"URL": raising}, "['URL']: raised LookupError"),
        ({"URL": lambda: None}, "['URL']: returned NoneType, and must return a str, or a list of str"),
        ({"URL": list}, "plain function"),
        ({"URL": lambda: ()}, "['URL']: returned tuple, and must return"),
        ({"URL": lambda: [TOKEN]}, "['URL']: the URL has no scheme"),
        ({"URL": lambda: [5]}, "['URL']: the URL must be a str, not int"),
        ({"URL": lambda: "memory://"}, "['URL']: returned the URL of the embedded broker"),
        (
            {"URL": lambda: f"amqp://me:{TOKEN}@host", "PASSWORD": "x"},
            "['URL']: the URL has a character that",
        ),
        ({"URL": lambda: "amqp://me:pw@host", "PASSWORD": "x"}, "['URL']: the URL has a password, and"),
    ],
)
def test_failure_is_told_without_what_it_was_about(entry, text):
    with pytest.raises((BrokerUnavailable, InvalidBroker)) as caught:
        read(**{"URL": "amqp://me@host/", **entry})

    assert text in str(caught.value)
    assert TOKEN not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            {"URL": "amqp://me:pw@host/", "PASSWORD": "x"},
            "['URL']: the URL has a password, and 'PASSWORD' is",
        ),
        ({"URL": "amqp://me:pw@host/", "PASSWORD": raising}, "['URL']: the URL has a password, and"),
        ({"URL": "amqp://host/", "PASSWORD": "x"}, "['URL']: the URL has no user name for 'PASSWORD'"),
        ({"URL": "memory://", "PASSWORD": "x"}, "['URL']: the embedded broker takes no password"),
        (
            {"URL": "amqp://me@host/", "PASSWORD": ""},
            "['PASSWORD']: must be a str that is not empty, or a function",
        ),
        ({"URL": "amqp://me@host/", "PASSWORD": None}, "['PASSWORD']: must be a str that is not empty"),
        ({"PASSWORD": "x"}, "the key 'URL' is missing"),
    ],
)
def test_what_is_wrong_for_certain_is_refused_by_the_settings(entry, text):
    with pytest.raises(InvalidBroker) as caught:
        settings(**entry)

    assert text in str(caught.value)


@pytest.mark.parametrize("key", ["URL", "PASSWORD"])
def test_coroutine_function_is_refused(key):
    async def fetch():
        return ""

    with pytest.raises(InvalidBroker, match=rf"\['{key}'\]: must be a plain function"):
        settings(**{"URL": "amqp://me@host/", key: fetch})


def test_repr_of_the_settings_shows_no_password():
    for password in (TOKEN, lambda: TOKEN):
        assert "t0ken" not in repr(settings(URL="amqp://me@host/", PASSWORD=password))


class Connecting(Backend):
    """Notes the URLs, and refuses."""

    def __init__(self, settings, urls):
        super().__init__(settings)
        self.urls = urls

    async def connect(self, url):
        self.urls.append(url)
        raise BrokerUnavailable("it is away")


@pytest.fixture
def connect():
    connections, urls = [], []

    def make(**entry):
        given = settings(**{"CONNECT_TIMEOUT": 0.2, "SHUTDOWN_TIMEOUT": 1.0, **entry})
        connections.append(Connection(given, lambda: Connecting(given, urls)))
        return connections[-1], urls

    yield make
    for connection in connections:
        connection.stop()


def test_each_attempt_uses_the_next_url_of_the_moment(connect):
    numbers = iter(range(100))
    connection, urls = connect(URL=lambda: [f"amqp://me:{next(numbers)}@{host}/" for host in "ab"])

    with pytest.raises(BrokerUnavailable):
        connection.send(Message.encode({}, "q"), 1.0)

    assert urls[:2] == ["amqp://me:0@a/", "amqp://me:3@b/"]


def test_function_that_raises_is_the_reason_of_the_outage(connect):
    connection, urls = connect(URL="amqp://me@host/", PASSWORD=raising)

    with pytest.raises(BrokerUnavailable, match=r"\['PASSWORD'\]: raised LookupError") as caught:
        connection.send(Message.encode({}, "q"), 0.5)

    assert TOKEN not in str(caught.value)
    assert urls == []


def test_function_that_hangs_blocks_neither_the_loop_nor_another_broker(connect):
    release, calls = threading.Event(), []

    def hang():
        calls.append(1)
        release.wait(30)
        return "late"

    hanging, _ = connect(URL="amqp://me@host/", PASSWORD=hang)
    healthy, urls = connect(URL="amqp://me:pw@host/")
    try:
        hanging.start()
        with pytest.raises(BrokerUnavailable, match="it is away"):
            healthy.send(Message.encode({}, "q"), 0.5)
        with pytest.raises(BrokerUnavailable, match="no answer of the function for URL or PASSWORD within"):
            hanging.send(Message.encode({}, "q"), 1.5)

        assert set(urls) == {"amqp://me:pw@host/"}
        assert calls == [1]  # not once more for each attempt

        release.set()
        deadline = time.monotonic() + 20
        while "amqp://me:late@host/" not in urls and time.monotonic() < deadline:
            with pytest.raises(BrokerUnavailable):
                hanging.send(Message.encode({}, "q"), 0.5)
        assert "amqp://me:late@host/" in urls
    finally:
        release.set()


def test_exit_does_not_wait_for_a_function_that_hangs(run_script):
    done = run_script(
        """
        import threading, time
        from django.conf import settings

        called = threading.Event()

        def hang():
            called.set()
            time.sleep(100)

        settings.configure(FASTSTREAM={"default": {"URL": "amqp://me@host/", "PASSWORD": hang}})
        from faststream_django import brokers

        brokers.start()
        print(called.wait(20))
        """,
        timeout=40,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
