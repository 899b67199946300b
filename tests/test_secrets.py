"""A password in FASTSTREAM is shown to nobody: settings, pages, errors, logs, checks, commands, pickles.

The failures of a real server are in integration/test_security.py, with the tools from here.
"""

import asyncio
import contextlib
import copy
import json
import logging
import pickle
import pprint
import re
import socket
import textwrap
import traceback
from collections import deque
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import pytest
from aiormq.connection import Connection as DriverConnection
from django.core.management import call_command
from django.core.management.base import CommandError
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from faststream.rabbit import RabbitBroker
from faststream.security import SASLPlaintext

from faststream_django import apublish, brokers, publish, publish_many, publish_on_commit
from faststream_django.backends.base import Backend, Publication
from faststream_django.backends.rabbit import RabbitBackend
from faststream_django.checks import check_deployment, check_settings
from faststream_django.conf import BrokerSettings, broker_settings, broker_settings_from, conceal_passwords
from faststream_django.conf.broker_url import InvalidURL, parse_url
from faststream_django.conf.secrets import PrivateURL, conceal
from faststream_django.connection import Connection
from faststream_django.connection.passthrough import NativeConnection
from faststream_django.exceptions import (
    BrokerUnavailable,
    BulkPublishError,
    InvalidBroker,
    InvalidMessage,
    PublishError,
)
from faststream_django.messages import Message
from faststream_django.sync import SyncBroker
from faststream_django.worker.broker import build_broker
from faststream_django.worker.consumer import Consumer
from faststream_django.worker.worker import Worker

# At both ends of what must be quoted in a URL, so that each part of a torn password is found.
SECRET = "s3cr3t-MARKER"
PASSWORD = f"{SECRET}@/?#[:%25 ü+&{SECRET}"
QUOTED = quote(PASSWORD, safe="")
GOOD = f"amqps://shop:{QUOTED}@rabbit.example/shop"
# Wrong in every way that the parser knows.
WRONG = [
    f"amqp://shop:{PASSWORD}@host/shop",
    f"amqp://shop:{SECRET}@{SECRET}@host/",
    f"amqp://shop:{SECRET}/{SECRET}@host/",
    f"amqp://shop:{SECRET}?{SECRET}@host/",
    f"amqp://shop:{SECRET}#{SECRET}@host/",
    f"amqp://shop:{SECRET}[{SECRET}@host/",
    f"amqp://shop:{SECRET}%zz@host/",
    f"amqp://shop:{SECRET}%FF@host/",
    f"amqp://shop:{SECRET} @host/",
    f"amqp://shop:{SECRET}\n@host/",
    f"amqp://shop:{SECRET}",
    f"amqp://shop:{SECRET}@",
    f"amqp://shop:{SECRET}@:5672/",
    f"amqp://shop:{SECRET}@host:99999/",
    f"amqp://shop:{SECRET}@a,b/",
    f"amqp://shop:{SECRET}@host/a/b",
    f"amqp://shop:{SECRET}@host/%0A",
    f"amqp://shop:{QUOTED}@host/?heartbeat=5",
    f"amqp://shop:x@host/?{SECRET}=1",
    f"amqp://shop:x@host/?name={SECRET}%0A",
    f"amqp://shop:{QUOTED}@host/?cafile=/ca.pem",
    f"amqps://shop:{QUOTED}@host/?no_verify_ssl={SECRET}",
    f"amqp:shop:{SECRET}@host",
    f"shop:{SECRET}@host",
    f"//shop:{SECRET}@host",
    f"kafka://shop:{SECRET}@host",
    f"{SECRET}://host",
    f"shop:{SECRET}",
    f"memory://shop:{SECRET}@x",
    f"memory://{SECRET}?x",
]


def leaks(text):
    """Return where the password is in a text."""
    return [text[max(0, each.start() - 60) : each.end() + 20] for each in re.finditer(SECRET, text)]


def told(error):
    """Return what a page, a log or a tracker can show of an error: texts, chain, local variables.

    Also of the errors that `from None` hides. The variables of the tests themselves are left out.
    """
    texts, waiting, seen = [], [error], set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        texts += [str(each), repr(each), repr(vars(each)), *traceback.format_exception(each)]
        texts += [
            f"{frame.f_code.co_qualname}: {name} = {pprint.pformat(value)}"
            for frame, _ in traceback.walk_tb(each.__traceback__)
            if not frame.f_code.co_filename.startswith(str(Path(__file__).parent))
            for name, value in frame.f_locals.items()
        ]
        waiting += [each.__cause__, each.__context__, *getattr(each, "errors", {}).values()]
    return "\n".join(texts)


def inside(*objects):
    """Return what our objects, and those that they hold, show of themselves and of their attributes."""
    texts, waiting, seen = [], list(objects), {}
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        if isinstance(each, dict | list | tuple | set | deque):
            waiting += [*each, *each.values()] if isinstance(each, dict) else each
        elif type(each).__module__.startswith("faststream_django"):
            # What the driver keeps for itself it must have: only its repr is shown.
            attributes = {} if isinstance(each, DriverConnection) else attributes_of(each)
            texts += [repr(each), pprint.pformat(each), pprint.pformat(attributes)]
            waiting += attributes.values()
    return "\n".join(texts)


def attributes_of(each):
    slots = [name for kind in type(each).__mro__ for name in vars(kind).get("__slots__", ())]
    return getattr(each, "__dict__", {}) | {
        name: getattr(each, name) for name in slots if name != "__weakref__" and hasattr(each, name)
    }


class Records(logging.Handler):
    """Keeps all that a record says, in words, and the lines of our own loggers."""

    def __init__(self):
        super().__init__()
        self.text = ""
        self.lines = []

    def emit(self, record):
        fields = {name: value for name, value in vars(record).items() if name != "exc_info"}
        self.text += f"{self.format(record)} {fields!r}\n"
        if record.exc_info:
            self.text += told(record.exc_info[1])
        if record.name.startswith("faststream_django"):
            self.lines.append(record.getMessage())


@contextlib.contextmanager
def everything_logged():
    """Log at every level: our own loggers and those of the drivers."""
    records = Records()
    names = ["faststream_django", "faststream", "aiormq", "aio_pika", "pamqp", "asyncio", "django", "yarl"]
    loggers = [logging.getLogger(name) for name in [*names, None]]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    logging.getLogger().addHandler(records)
    try:
        yield records
    finally:
        logging.getLogger().removeHandler(records)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def failure(function, *arguments, **options):
    """Call what must fail; return the error."""
    try:
        result = function(*arguments, **options)
    except Exception as error:
        return error
    raise AssertionError(f"{function} returned {result!r}")


# The views of the tests.


def broken(request):
    return HttpResponse(1 / 0)


def publishing(request):
    publish({"id": 1}, "security-absent", timeout=0.3)


def publishing_to_an_exchange(request):
    publish({"id": 1}, exchange="absent", routing_key="key")


def publishing_many(request):
    publish_many([{"id": 1}, {"id": 2}], "orders", timeout=0.3)


def publishing_on_commit(request):
    publish_on_commit({"id": 1}, "orders", timeout=0.3, robust=False)


async def publishing_async(request):
    await apublish({"id": 1}, "orders", timeout=0.3)


urlpatterns = [
    path("broken/", broken),
    path("publish/", publishing),
    path("exchange/", publishing_to_an_exchange),
    path("many/", publishing_many),
    path("on-commit/", publishing_on_commit),
    path("async/", publishing_async),
]


@pytest.fixture
def error_page(settings):
    """Get Django's page about an error in a view, as a browser and as a script see it."""
    settings.DEBUG = True
    settings.ROOT_URLCONF = __name__

    def get(view):
        client = Client(raise_request_exception=False)
        pages = [client.get(f"/{view}/", headers={"accept": kind}) for kind in ("text/html", "text/plain")]
        assert [page.status_code for page in pages] == [500, 500]
        texts = [page.content.decode() for page in pages]
        assert all("FASTSTREAM" in text and "DEFAULT_AUTO_FIELD" in text for text in texts)
        return "\n".join(texts)

    yield get
    brokers.stop()


@pytest.fixture
def unreachable(unreachable_port):
    return f"amqp://shop:{QUOTED}@127.0.0.1:{unreachable_port}/shop"


# Settings


@pytest.mark.parametrize(
    "make",
    [
        lambda url: {"default": {"URL": url}},
        lambda url: {"default": {"URL": [GOOD, url]}},
        lambda url: {"default": {"URL": (GOOD, url)}},
        lambda url: {"default": MappingProxyType({"URL": (url,)})},
        lambda url: MappingProxyType({"default": {"URL": url}}),
        lambda url: MappingProxyType({"default": MappingProxyType({"URL": [url]})}),
        lambda url: {"default": {"url": url}},
        lambda url: {"default": {"URL": GOOD, "OPTIONS": {"specification_url": url}}},
        lambda url: {"default": {"URL": GOOD, "OPTIONS": {"password": PASSWORD}}},
        lambda url: {"URL": url},
    ],
)
@pytest.mark.parametrize("url", [GOOD, *WRONG])
def test_no_form_of_the_setting_shows_a_password(settings, make, url):
    settings.FASTSTREAM = make(url)

    conceal_passwords()

    assert leaks(pprint.pformat(settings.FASTSTREAM) + repr(settings.FASTSTREAM)) == []


@pytest.mark.parametrize("value", [GOOD, [GOOD], {"default": GOOD}, {"default": [f"shop:{SECRET}@host"]}])
def test_a_setting_of_the_wrong_type_shows_no_password(settings, value):
    settings.FASTSTREAM = value

    conceal_passwords()

    assert leaks(repr(settings.FASTSTREAM)) == []


def test_a_concealed_url_is_still_the_text_that_it_was(settings):
    entry = {"URL": [GOOD, "amqp://localhost/"], "QUEUES": ["a@b:c"]}
    settings.FASTSTREAM = {"default": entry}

    conceal_passwords()

    assert entry == {"URL": [GOOD, "amqp://localhost/"], "QUEUES": ["a@b:c"]}
    assert json.loads(json.dumps(entry)) == entry
    assert copy.deepcopy(entry) == pickle.loads(pickle.dumps(entry)) == entry
    assert f"{entry['URL'][0]}" == "".join(entry["URL"][:1]) == GOOD


def test_a_setting_is_concealed_in_place_and_keeps_its_identity(settings):
    given = {"default": {"URL": GOOD}}
    settings.FASTSTREAM = given

    conceal_passwords()
    conceal_passwords()

    assert settings.FASTSTREAM is given
    assert type(given["default"]["URL"]) is PrivateURL
    assert broker_settings("default") is broker_settings("default")


def test_a_setting_that_cannot_be_changed_works_and_is_copied_once(settings):
    given = MappingProxyType({"default": MappingProxyType({"URL": GOOD, "QUEUES": ("orders",)})})
    settings.FASTSTREAM = given

    first = broker_settings("default")

    assert first.urls == (GOOD,)
    assert broker_settings("default") is first
    assert given["default"]["URL"] is GOOD


@pytest.mark.parametrize("error", [TypeError, AttributeError, NotImplementedError])
def test_a_dict_that_refuses_to_be_changed_is_copied(error):
    class Frozen(dict):
        def __setitem__(self, key, value):
            raise error("frozen")

    concealed = conceal(Frozen(default=Frozen(URL=GOOD, QUEUES=["orders"])))

    assert leaks(repr(concealed)) == []
    assert concealed == {"default": {"URL": GOOD, "QUEUES": ["orders"]}}


def test_what_holds_no_password_is_left_alone(settings):
    options = {"middlewares": ("a.B",), "logger": None, "client_properties": {"x": ["y", 1]}}
    entry = {"URL": "memory://", "QUEUES": {"mail@shop": {"bind": {"events": ("a.*",)}}}, "OPTIONS": options}
    before = repr(entry).replace("memory://", "")

    assert conceal({"default": entry})["default"] is entry
    assert entry["OPTIONS"]["middlewares"] is options["middlewares"]
    assert repr(entry).replace("memory://", "") == before


def test_an_override_is_concealed_with_its_first_use(settings):
    settings.FASTSTREAM = {"default": {"URL": "memory://"}}
    broker_settings("default")

    settings.FASTSTREAM = {"default": {"URL": GOOD}}
    broker_settings("default")
    settings.FASTSTREAM["later"] = {"URL": f"amqp://shop:{SECRET}@host/a/b"}
    failure(broker_settings, "later")

    assert leaks(repr(settings.FASTSTREAM)) == []


@pytest.mark.parametrize("url", [GOOD, *WRONG])
def test_diffsettings_shows_no_password(settings, capsys, url):
    settings.FASTSTREAM = {"default": {"URL": url}}
    conceal_passwords()

    for options in ({}, {"all": True}, {"output": "unified"}, {"all": True, "output": "unified"}):
        call_command("diffsettings", **options)

    output = capsys.readouterr().out
    assert output.count("FASTSTREAM = {'default'") == 4
    assert leaks(output) == []


DIFFSETTINGS = """
import sys
from django.core.management import execute_from_command_line

execute_from_command_line(["manage.py", "diffsettings", *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    "arguments",
    [[], ["--all"], ["--output", "unified"], ["--default", "site_settings", "--all"]],
)
def test_the_command_diffsettings_shows_no_password(run_script, tmp_path, arguments):
    """In a process of its own nothing but the start of the app conceals it."""
    (tmp_path / "site_settings.py").write_text(
        f"from tests.settings import *\nFASTSTREAM = {{'default': {{'URL': {GOOD!r}}}}}\n"
    )

    done = run_script(DIFFSETTINGS, *arguments, env={"DJANGO_SETTINGS_MODULE": "site_settings"})

    assert done.returncode == 0, done.stderr
    assert "amqps://shop:***@rabbit.example/shop" in done.stdout
    assert leaks(done.stdout + done.stderr) == []


# Pages


@pytest.mark.parametrize("url", [GOOD, *WRONG[:6]])
def test_the_error_page_of_a_broken_view_shows_no_password(settings, error_page, url):
    settings.FASTSTREAM = {"default": {"URL": url}, "events": {"URL": [url, GOOD]}}
    conceal_passwords()

    page = error_page("broken")

    assert "ZeroDivisionError" in page
    assert leaks(page) == []


# Not in the transaction of a test: it would never commit.
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("view", ["publish", "many", "on-commit", "async"])
def test_the_error_page_of_a_failed_publish_shows_no_password(settings, error_page, unreachable, view):
    settings.FASTSTREAM = {"default": {"URL": [unreachable, unreachable], "CONNECT_TIMEOUT": 0.2}}

    page = error_page(view)

    assert "BrokerUnavailable" in page
    assert leaks(page) == []


@pytest.mark.parametrize("view", ["publish", "many", "on-commit", "async"])
@pytest.mark.parametrize("url", WRONG[:6])
def test_the_error_page_of_a_publish_with_a_wrong_url_shows_no_password(settings, error_page, url, view):
    settings.FASTSTREAM = {"default": {"URL": url}}

    page = error_page(view)

    assert "InvalidBroker" in page
    assert leaks(page) == []


def test_the_error_page_shows_no_password_of_a_security_object(settings, error_page, unreachable_port):
    settings.FASTSTREAM = {
        "default": {
            "URL": f"amqp://127.0.0.1:{unreachable_port}/",
            "OPTIONS": {"security": SASLPlaintext("shop", PASSWORD)},
        }
    }

    page = error_page("publish")

    assert "SASLPlaintext" in page
    assert leaks(page) == []


# Errors and pickles


@pytest.mark.parametrize("url", WRONG)
def test_the_error_about_a_wrong_url_knows_no_password(settings, url):
    settings.FASTSTREAM = {"default": {"URL": url}}

    errors = [
        failure(broker_settings, "default"),
        failure(publish, {"id": 1}, "orders"),
        failure(publish_many, [{"id": 1}], "orders"),
    ]

    assert {type(error) for error in errors} == {InvalidBroker}
    for error in errors:
        assert leaks(told(error)) == []
        assert SECRET.encode() not in pickle.dumps(error)


@pytest.mark.parametrize("url", WRONG)
def test_the_parser_leaves_no_part_of_a_wrong_url_in_a_frame(url):
    error = failure(parse_url, url)

    assert type(error) is InvalidURL
    assert leaks(told(error)) == []


def test_the_errors_of_an_unreachable_broker_know_no_password(settings, unreachable):
    settings.FASTSTREAM = {"default": {"URL": unreachable}}

    errors = [
        failure(publish, {"id": 1}, "orders", timeout=0.3),
        failure(publish, {"id": 1}, "orders", timeout=0.3),
        failure(publish_many, [{"id": 1}] * 3, "orders", timeout=0.3),
    ]
    brokers.stop()

    assert [type(error) for error in errors] == [BrokerUnavailable, BrokerUnavailable, BulkPublishError]
    for error in errors:
        assert leaks(told(error)) == []
        assert leaks(told(pickle.loads(pickle.dumps(error)))) == []
        assert SECRET.encode() not in pickle.dumps(error)


def test_the_errors_of_a_backend_keep_no_url_in_their_frames(unreachable):
    """The worker raises them as they are; a tracker shows the variables of every frame."""
    settings = BrokerSettings(urls=(unreachable,), backend="")

    async def connect():
        with pytest.raises(BrokerUnavailable) as caught:
            await RabbitBackend(settings).connect(settings.urls[0])
        return caught.value

    error = asyncio.run(connect())

    assert leaks(told(error)) == []


def test_a_pickled_message_knows_no_password(settings):
    settings.FASTSTREAM = {"default": {"URL": GOOD}}

    message = Message.encode({"id": 1}, "orders")

    assert SECRET.encode() not in pickle.dumps(message)


# Reprs


def test_no_repr_shows_a_password(settings, unreachable):
    settings.FASTSTREAM = {"default": {"URL": unreachable}}
    parsed = BrokerSettings(
        urls=(unreachable,), backend="", options={"security": SASLPlaintext("x", PASSWORD)}
    )
    message = Message.encode({"id": 1}, "orders")
    sync = SyncBroker(lambda: RabbitBroker(unreachable), timeout=0.2)
    failure(sync.publish, {"id": 1}, "orders")
    native = NativeConnection(
        lambda: RabbitBroker(unreachable), timeout=1.0, connect_timeout=1.0, shutdown_timeout=1.0
    )
    objects = {
        "settings": [parsed, broker_settings("default"), parse_url(unreachable)],
        "passwords": [
            broker_settings_from("x", {"URL": "amqp://shop@host/", "PASSWORD": PASSWORD}),
            broker_settings_from("x", {"URL": "amqp://shop@host/", "PASSWORD": lambda: PASSWORD}),
            broker_settings_from("x", {"URL": lambda: unreachable}),
            broker_settings_from("x", {"URL": lambda: "amqp://shop@host/", "PASSWORD": PASSWORD}),
        ],
        "brokers": [brokers, brokers["default"], *brokers, sync, native],
        "backend": [RabbitBackend(parsed), RabbitBackend(parsed).broker],
        "worker": [Worker([Consumer(parsed, [])], shutdown_timeout=1.0), build_broker(parsed, [])],
        "message": [message, Publication(message, "default")],
        "errors": [PublishError("x"), InvalidMessage("x"), BulkPublishError("x", errors={}, confirmed=0)],
        "security": parsed.options["security"],
    }
    shown = pprint.pformat(objects) + repr(objects) + inside(objects)
    sync.stop()

    assert "Supervisor" in shown
    assert leaks(shown) == []


# Checks


@pytest.mark.parametrize("url", [GOOD, GOOD.replace("amqps", "amqp"), f"{GOOD}?no_verify_ssl=1", *WRONG])
def test_no_check_shows_a_password(settings, url):
    settings.FASTSTREAM = {
        "default": {"URL": url},
        "list": {"URL": [GOOD, url]},
        "option": {"URL": GOOD, "OPTIONS": {"url": url}},
        "key": {"url": url},
        "bare": url,
        "backend": {"URL": GOOD, "BACKEND": GOOD},
        "guest": {"URL": f"amqp://guest:{QUOTED}@rabbit/"},
    }

    messages = [*check_settings(), *check_deployment()]

    assert messages
    assert leaks(repr([vars(message) for message in messages])) == []


def test_the_command_check_shows_no_password(settings, capsys):
    entries = {f"wrong{number}": {"URL": url} for number, url in enumerate(WRONG)}
    settings.FASTSTREAM = {**entries, "plain": {"URL": GOOD.replace("amqps", "amqp")}}

    error = failure(call_command, "check", deploy=True)

    output = capsys.readouterr()
    text = f"{error}{output.out}{output.err}"
    assert text.count("faststream_django.E001") == len(WRONG)
    assert "faststream_django.W002" in text
    assert leaks(text) == []


@pytest.mark.parametrize(
    ("url", "is_weak"),
    [
        ("amqps://shop@host/", True),
        ("amqps://shop:@host/", True),
        ("amqps://shop:shop@host/", True),
        ("amqps://sh%6Fp:%73hop@host/", True),
        ("amqps://shop:guest@host/", True),
        ("amqps://shop@host/?auth=EXTERNAL", False),
        (GOOD, False),
    ],
)
def test_a_password_that_is_guessed_first_is_a_weakness(settings, url, is_weak):
    settings.FASTSTREAM = {"default": {"URL": url}}

    ids = [message.id for message in check_deployment()]

    assert ids == ["faststream_django.W006"] * is_weak


@pytest.mark.parametrize(("password", "is_weak"), [("shop", True), ("guest", True), (PASSWORD, False)])
def test_a_security_object_with_a_password_that_is_guessed_first_is_a_weakness(settings, password, is_weak):
    security = SASLPlaintext("shop", password)
    settings.FASTSTREAM = {"default": {"URL": "amqps://host/", "OPTIONS": {"security": security}}}

    ids = [message.id for message in check_deployment()]

    assert ids == ["faststream_django.W006"] * is_weak


# Logs


@pytest.mark.django_db(transaction=True)  # publish_on_commit() sends at once
def test_nothing_that_is_logged_shows_a_password(settings, unreachable):
    settings.FASTSTREAM = {"default": {"URL": unreachable}}

    with everything_logged() as records:
        failure(publish, {"id": 1}, "orders", timeout=0.3)
        publish_on_commit({"id": 1}, "orders", timeout=0.3)
        brokers.stop()

    assert any("state=unavailable" in line for line in records.lines)
    assert any("was not confirmed" in line for line in records.lines)
    assert leaks(records.text) == []


def test_a_host_that_is_not_found_shows_no_password(connect_once, monkeypatch):
    def getaddrinfo(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    with everything_logged() as records:
        error = connect_once(f"amqp://shop:{QUOTED}@rabbit.invalid/")

    assert "Name or service not known" in str(error)
    assert leaks(records.text + told(error)) == []


class UnknownSecurity:
    def __init__(self):
        self.password = SECRET


def test_an_option_that_makes_the_driver_fail_shows_no_password(connect_once, unreachable):
    error = connect_once(unreachable, options={"security": UnknownSecurity()})

    assert "NotImplementedError" in str(error)
    assert leaks(told(error)) == []


class FailingBackend(Backend):
    """Fails in a way that nobody foresaw, which is logged with its traceback."""

    async def connect(self, url):
        raise LookupError("no")


def test_the_traceback_of_an_unforeseen_error_shows_no_password(settings):
    settings.FASTSTREAM = {"default": {"URL": GOOD, "BACKEND": f"{__name__}.FailingBackend"}}

    with everything_logged() as records:
        error = failure(publish, {"id": 1}, "orders", timeout=0.2)
        brokers.stop()

    assert "LookupError: no" in records.text
    assert leaks(records.text + told(error)) == []


@pytest.fixture
def connect_once():
    """Publish on a connection that fails; return the error."""
    connections = []

    def fail(url, **options):
        settings = BrokerSettings(urls=(url,), backend="", **options)
        connections.append(Connection(settings, lambda: RabbitBackend(settings)))
        return failure(connections[-1].send, Message.encode(b"x", "orders"), 0.5)

    yield fail
    for connection in connections:
        connection.stop()


FORGED = "gone\nCRITICAL broker=default state=forged\r\x1b[31m"


class ForgingBackend(Backend):
    """Fails with a text that would begin a new line of a log."""

    async def connect(self, url):
        raise BrokerUnavailable(FORGED)


@pytest.mark.django_db(transaction=True)  # publish_on_commit() sends at once
def test_a_text_with_line_breaks_cannot_forge_a_line_of_the_log(settings):
    settings.FASTSTREAM = {"default": {"URL": "amqp://localhost/", "BACKEND": f"{__name__}.ForgingBackend"}}

    with everything_logged() as records:
        publish_on_commit({"id": 1}, "orders", timeout=0.2)
        brokers.stop()

    assert len(records.lines) >= 2
    assert [line for line in records.lines if not line.isprintable()] == []


# Commands


@pytest.mark.parametrize("verbosity", [0, 3])
def test_the_command_to_publish_shows_no_password(settings, capsys, unreachable, verbosity):
    settings.FASTSTREAM = {"default": {"URL": unreachable}}

    error = failure(
        call_command, "faststream_publish", "orders", "x", timeout=0.3, traceback=True, verbosity=verbosity
    )
    brokers.stop()

    assert isinstance(error, CommandError)
    output = capsys.readouterr()
    assert leaks(output.out + output.err + told(error)) == []


COMMAND = """
import logging, sys
from django.core.management import execute_from_command_line

logging.basicConfig(level=1)
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""


@pytest.mark.parametrize("url", [WRONG[0], WRONG[2], WRONG[-4]])
@pytest.mark.parametrize(
    "command",
    [["faststream_publish", "orders", "x"], ["faststream_worker"], ["check", "--deploy"]],
)
def test_a_command_with_a_wrong_url_shows_no_password(run_script, tmp_path, command, url):
    (tmp_path / "site_settings.py").write_text(
        f"from tests.settings import *\nFASTSTREAM = {{'default': {{'URL': {url!r}}}}}\n"
    )

    done = run_script(COMMAND, *command, "--traceback", env={"DJANGO_SETTINGS_MODULE": "site_settings"})

    assert done.returncode
    assert "FASTSTREAM['default']['URL']" in done.stderr
    assert leaks(done.stdout + done.stderr) == []


def test_the_tools_of_these_tests_find_a_password():
    """What looks for leaks must be able to see one, in each of the places where it looks."""
    namespace = {"__file__": "/elsewhere.py"}
    source = textwrap.dedent("""
        def fail(url):
            parts = [url]
            raise ValueError("no")
    """)
    exec(compile(source, "/elsewhere.py", "exec"), namespace)

    with everything_logged() as records:
        try:
            namespace["fail"](GOOD)
        except ValueError as caught:
            error = caught
            logging.getLogger("aiormq.connection").debug("x", exc_info=True)
    hidden = RuntimeError("y")
    hidden.__context__, hidden.__suppress_context__ = error, True

    assert leaks(told(error))
    assert leaks(told(hidden))
    assert leaks(records.text)
