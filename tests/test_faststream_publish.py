"""The command, by call_command() and as a program of its own."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from faststream_django.backends.memory.server import MemoryServer
from faststream_django.connection.bulk import CHUNK_MESSAGES, CHUNKS_UNDER_WAY
from faststream_django.exceptions import BrokerUnavailable, ConnectionLost, MessageRejected
from faststream_django.management.publishing.bodies import read_lines
from faststream_django.signals import message_published
from faststream_django.testing import capture_messages

ROOT = Path(__file__).parent.parent


@pytest.fixture
def messages():
    with capture_messages() as messages:
        yield messages


@pytest.fixture
def stdin(monkeypatch):
    """Give the command something to read."""

    def give(content, *, isatty=False):
        stream = io.TextIOWrapper(io.BytesIO(content))
        stream.isatty = lambda: isatty
        monkeypatch.setattr(sys, "stdin", stream)
        return stream.buffer

    give(b"", isatty=True)
    return give


@pytest.fixture
def run(stdin):
    """Run the command in this process; return what it wrote to stdout, or its CommandError."""

    def run(*arguments, verbosity=1, stderr=None, **options):
        stdout = io.StringIO()
        stderr = io.StringIO() if stderr is None else stderr
        run.stdout, run.stderr = stdout, stderr
        try:
            call_command(
                "faststream_publish",
                *arguments,
                stdout=stdout,
                stderr=stderr,
                verbosity=verbosity,
                no_color=True,
                **options,
            )
        except CommandError as error:
            return error
        return stdout.getvalue()

    return run


def assert_usage(error, *texts):
    assert isinstance(error, CommandError)
    assert error.returncode == 2 or "Error:" in str(error)  # argparse raises without a code here
    for text in texts:
        assert text in str(error)


# One message


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"id":  1}', "application/json"),
        ("[1]", "application/json"),
        ("1e5", "application/json"),
        ('"text"', "application/json"),
        ("null", "application/json"),
        ("1" * 5000, "application/json"),
        ("hello", "text/plain"),
        ("{id: 1}", "text/plain"),
        ("NaN", "text/plain"),
        ('{"a": Infinity}', "text/plain"),
        ("", "text/plain"),
        ("grün", "text/plain"),
        ("[" * 100_000, "text/plain"),
        ("\udcff", "application/octet-stream"),  # how Python passes a byte that is not UTF-8
    ],
)
def test_a_body_goes_as_it_is(run, messages, body, content_type):
    run("orders", body)

    (captured,) = messages
    assert captured.message.body == body.encode(errors="surrogateescape")
    assert captured.message.content_type == content_type
    assert captured.queue == "orders"


def test_it_prints_what_was_confirmed(run, messages):
    stdout = run("orders", "x")

    assert stdout.startswith(f"confirmed 1 message to queue 'orders' (id {messages[0].message_id}, ")
    assert stdout.endswith(" ms)\n")
    assert run.stderr.getvalue() == ""


def test_it_prints_nothing_with_verbosity_0(run, messages):
    assert run("orders", "x", verbosity=0) == ""
    assert len(messages) == 1


def test_the_content_type_given_wins(run, messages):
    run("orders", "{}", "--content-type", "text/x")

    assert messages[0].message.content_type == "text/x"


@pytest.mark.parametrize(
    ("arguments", "exchange", "key"),
    [
        (["k", "BODY", "--exchange", "events"], "events", "k"),
        (["--exchange", "events", "--routing-key", "k", "BODY"], "events", "k"),
        (["--exchange", "events", "--routing-key", "", "BODY"], "events", ""),
        (["--exchange", "events", "--routing-key", "k", "-"], "events", "k"),
        (["--exchange", "events", "--routing-key", "k"], "events", "k"),
        (["--exchange", "events"], "events", ""),
        (["k", "--exchange", "events"], "events", "k"),
        (["k", "-", "--exchange", "events", "--routing-key", "k"], "events", "k"),
        (["k", "--header", "a=b", "BODY"], "", "k"),
    ],
)
def test_the_destination(run, stdin, messages, arguments, exchange, key):
    stdin(b"BODY")

    result = run(*arguments)

    assert isinstance(result, str), result
    (captured,) = messages
    assert (captured.exchange, captured.routing_key, captured.body) == (exchange, key, "BODY")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Nothing says where to publish"),
        (["", "BODY"], "Nothing says where to publish"),
        (["--routing-key", "k"], "Nothing says where to publish"),
        (["orders", "BODY", "--routing-key", "k"], "leave one of them out"),
        (["a", "BODY", "--exchange", "e", "--routing-key", "b"], "leave one of them out"),
        (["--exchange", "events", '{"id": 1}'], "looks like BODY"),
        (['{"id": 1}'], "looks like BODY"),
        (["-"], "looks like BODY"),
        (['{"id": 1}', "orders"], "QUEUE looks like BODY; QUEUE comes first"),
        (["[1]", "orders", "--exchange", "events"], "QUEUE looks like BODY; QUEUE comes first"),
        (["-", "orders"], "QUEUE looks like BODY; QUEUE comes first"),
        (["orders", "BODY", "--priority", "256"], "priority is out of range"),
        (["orders", "BODY", "--priority", "high"], "invalid int value"),
        (["orders", "BODY", "--expiration", "-1"], "expiration is -1 seconds from now"),
        (["orders", "BODY", "--message-id", "a\nb"], "message_id has a control character"),
        (["orders", "--lines", "--message-id", "m-1"], "--message-id would give every line the same id"),
        (["orders", "BODY", "--file", "f"], "BODY and --file"),
        (["orders", "-", "--file", "f"], "BODY and --file"),
        (["orders", "BODY", "--lines"], "leave BODY out"),
        (["orders", "BODY", "--timeout", "0"], "seconds above 0"),
        (["orders", "BODY", "--timeout", "nan"], "seconds above 0"),
        (["orders", "BODY", "--timeout", "inf"], "seconds above 0"),
        (["orders", "BODY", "--timeout", "soon"], "invalid float value"),
        (["orders", "BODY", "more"], "unrecognized arguments"),
        (["orders", "BODY", "--broker", "defualt"], "did you mean 'default'?"),
        (["orders", "--file", "absent.json"], "--file 'absent.json' cannot be read: No such file"),
        (["orders", "--file", "."], "Is a directory"),
        (["orders"], "There is no body"),  # on a terminal
        (["orders", "--lines"], "There is no body"),
        (["or\nders", "BODY"], "control character"),
        (["BODY", "--exchange", "ü", "--routing-key", ""], "exchange"),
    ],
)
def test_a_wrong_usage(run, stdin, messages, arguments, text):
    stdin(b"x", isatty=True)

    assert_usage(run(*arguments), text)
    assert not messages


def test_headers(run, messages):
    run("orders", "x", *["--header", "tenant=a=b"], *["--header", "empty="], *["--header", "n:=1"])
    run("orders", "x", header=['list:=["a", {"b": null}]', "on:=true"])

    assert messages[0].headers == {"tenant": "a=b", "empty": "", "n": 1}
    assert messages[1].headers == {"list": ["a", {"b": None}], "on": True}


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (["ok=1", "Authorization: Bearer hunter2"], "--header number 2 is not NAME=VALUE"),
        (["=hunter2"], "--header number 1 is not NAME=VALUE"),
        ([":=hunter2"], "--header number 1 is not NAME=VALUE"),
        (["n:=hunter2"], "'n': it is not JSON at column 1"),
        (["n:=NaN"], "'n': NaN is not JSON"),
        (["n=1", "n=hunter2"], "number 2 is given twice: 'n'"),
        (["n:=99999999999999999999"], "does not fit 64 bits"),
        (["ok=1", f"n:={'9' * 5000}"], "number 2, 'n': a number in it has too many digits; quote it"),
        ([f'n:={{"hunter2": [-{"9" * 5000}]}}'], "number 1, 'n': a number in it has too many digits"),
        (["CC=hunter2"], "special to RabbitMQ"),
    ],
)
def test_a_bad_header_is_a_wrong_usage_and_is_not_quoted(run, messages, headers, text):
    error = run("orders", "x", header=headers)

    assert_usage(error, text)
    assert "hunter2" not in str(error)
    assert not messages


@pytest.mark.parametrize("arguments", [["orders"], ["orders", "-"]])
def test_a_body_from_standard_input(run, stdin, messages, arguments):
    stdin(b'{"id": 1}\n')

    run(*arguments)

    assert messages[0].message.body == b'{"id": 1}\n'
    assert messages[0].message.content_type == "application/json"


def test_a_dash_reads_from_a_terminal(run, stdin, messages):
    stdin(b"typed", isatty=True)

    run("orders", "-")

    assert messages[0].body == "typed"


def test_an_empty_standard_input_is_a_wrong_usage_unless_it_is_asked_for(run, stdin, messages):
    stdin(b"")

    assert_usage(run("orders"), "standard input is empty")
    assert "confirmed" in run("orders", "-")
    assert [each.message.body for each in messages] == [b""]


def test_no_standard_input_at_all(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

    assert_usage(run("orders"), "There is no body")


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("order.json", b'{"id": 1}\n', "application/json"),
        ("order.txt", b'{"id": 1}\n', "application/json"),
        ("order.txt", b"hello\n", "text/plain"),
        ("order.png", b"\x89PNG\xff", "application/octet-stream"),
    ],
)
def test_a_body_from_a_file(run, messages, tmp_path, name, content, content_type):
    (tmp_path / name).write_bytes(content)

    run("orders", "--file", str(tmp_path / name))

    assert messages[0].message.body == content
    assert messages[0].message.content_type == content_type


def test_a_json_file_that_is_none_is_not_sent(run, messages, tmp_path):
    (tmp_path / "order.json").write_text("{\n  id: 1}")

    error = run("orders", "--file", str(tmp_path / "order.json"))

    assert error.returncode == 1
    assert "named .json, but it is not JSON at line 2, column 3" in str(error)
    assert "confirmed" in run("orders", file=str(tmp_path / "order.json"), content_type="text/plain")
    assert len(messages) == 1


def test_no_more_than_the_limit_is_read_of_a_body(run, stdin, settings, messages):
    settings.FASTSTREAM = {"default": {"URL": "memory://", "MAX_MESSAGE_BYTES": 10}}
    stream = stdin(b"x" * 1000)

    error = run("orders")

    assert error.returncode == 1
    assert "more than the 10 bytes that MAX_MESSAGE_BYTES allows" in str(error)
    assert stream.tell() == 11
    assert not messages


def test_the_file_of_a_read_error_is_a_wrong_usage(run, monkeypatch):
    class Broken:
        def isatty(self):
            return False

        @property
        def buffer(self):
            return self

        def read(self, size):
            raise OSError(5, "Input/output error")

        readline = read

        def fileno(self):
            raise OSError

    monkeypatch.setattr(sys, "stdin", Broken())

    assert_usage(run("orders"), "Input/output error")
    error = run("orders", lines=True)
    assert (error.returncode, str(error)) == (1, "Reading failed after 0 messages: Input/output error.")


@pytest.mark.parametrize(
    ("failure", "code"),
    [(BrokerUnavailable("away"), 1), (MessageRejected("full"), 1), (ConnectionLost("lost"), 3)],
)
def test_the_exit_code_tells_what_is_known_of_the_message(run, failure, code):
    with capture_messages(fail_with=failure):
        error = run("orders", "x")

    assert (error.returncode, str(error)) == (code, str(failure))
    assert run.stdout.getvalue() == ""


def test_an_error_comes_without_its_cause(run):
    """A driver's own error may hold a URL, and --traceback would show it."""
    with capture_messages(fail_with=ConnectionLost("lost")):
        error = run("orders", "x")

    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_wrong_setting_is_no_wrong_usage(run, settings):
    settings.FASTSTREAM = {"default": {"URL": "amqp://guest:hunter2@", "QUEUE": []}}

    error = run("orders", "x")

    assert error.returncode == 1
    assert "did you mean 'QUEUES'?" in str(error)
    assert "hunter2" not in str(error)


def test_a_codec_of_the_settings_does_not_touch_the_body(run, settings, messages):
    class Codec:
        async def decode(self, message):
            return message.body

        async def encode(self, message, serializer=None):
            return b"encoded", "application/x-codec"

    settings.FASTSTREAM = {"default": {"URL": "memory://", "OPTIONS": {"codec": Codec()}}}

    run("orders", "{}")

    assert messages[0].message.body == b"{}"


def test_the_embedded_broker_comes_with_a_warning(run, settings):
    settings.FASTSTREAM = {"default": {"URL": "memory://"}}

    with capture_messages():
        run("orders", "x")

    assert "no other process sees the message" in run.stderr.getvalue()


@pytest.fixture(autouse=True)
def _rabbit(settings, counting_port):
    """By default a broker that would be seen to be connected to, and where nothing arrives."""
    settings.FASTSTREAM = {"default": {"URL": counting_port.url, "MAX_MESSAGE_BYTES": 10_000_000}}


def test_a_dry_run_connects_to_nothing(run, stdin, counting_port):
    stdin(b"1\n2\n")

    one = run("orders", '{"id": 1}', "--header", "token=hunter2", "--dry-run")
    many = run("--exchange", "events", "--routing-key", "k", "--lines", "--dry-run")

    assert one == (
        "would publish 1 message to queue 'orders' of broker 'default' "
        "(application/json, 9 bytes, headers 'token')\n"
    )
    assert many == "would publish 2 messages to exchange 'events' with routing key 'k'\n"
    assert counting_port.count == 0


def test_a_dry_run_finds_what_is_wrong(run, stdin):
    stdin(b"1\nnope\n")

    error = run("orders", lines=True, dry_run=True)

    assert error.returncode == 1
    assert run.stderr.getvalue() == "line 2: it is not JSON at column 1 (Expecting value); correct it\n"
    assert run.stdout.getvalue() == "would publish 1 message to queue 'orders'\n"


# A message a line


def test_lines_are_published_in_order_as_they_are(run, stdin, messages):
    stdin(b'{"id":  1}\n\n  \n[2]\r\n"3"')

    stdout = run("orders", "--lines")

    assert [each.message.body for each in messages] == [b'{"id":  1}', b"[2]", b'"3"']
    assert {each.message.content_type for each in messages} == {"application/json"}
    assert stdout.startswith("confirmed 3 messages to queue 'orders' (0.")
    assert run.stderr.getvalue() == ""


def test_lines_of_a_file(run, messages, tmp_path):
    (tmp_path / "orders.json").write_text("1\n2\n")

    run("orders", "--lines", "--file", str(tmp_path / "orders.json"), "--header", "a=b")

    assert [each.body for each in messages] == [1, 2]
    assert messages[1].headers == {"a": "b"}


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_no_lines_are_no_error(run, stdin, messages, content):
    stdin(content)

    assert run("orders", "--lines").startswith("confirmed 0 messages to queue 'orders'")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"nope", "it is not JSON at column 1 (Expecting value); correct it"),
        (b"[NaN]", "NaN is not JSON; use null or a text"),
        (b'"\xff"', "byte 2 is not UTF-8; save the input as UTF-8"),
        (b"\xef\xbb\xbf1", "it begins with a byte order mark; save the input as UTF-8 without one"),
        (b"[" * 100_000, "it is nested too deeply for JSON; flatten it"),
    ],
)
def test_a_bad_line_is_reported_and_the_others_are_published(run, stdin, messages, line, problem):
    stdin(b"1\n\n" + line + b"\n2\n")

    error = run("orders", lines=True)

    assert error.returncode == 1
    assert str(error) == "1 of the lines failed, see above; correct them and publish them again."
    assert run.stderr.getvalue() == f"line 3: {problem}\n"
    assert run.stdout.getvalue().startswith("confirmed 2 messages")
    assert [each.body for each in messages] == [1, 2]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_long_line_is_reported_and_no_more_than_the_limit_is_held(run, stdin, settings, messages, end):
    settings.FASTSTREAM = {"default": {"URL": "memory://", "MAX_MESSAGE_BYTES": 10}}
    fits, long = b"1" * 10, b"1" * 11
    stdin(b"\n".join([fits, long, long * 100, b"2", fits + b"\r3", long]) + end)

    error = run("orders", lines=True, verbosity=0)

    assert error.returncode == 1
    reported = run.stderr.getvalue().splitlines()
    assert [line.partition(":")[0] for line in reported] == ["line 2", "line 3", "line 5", "line 6"]
    assert "it has more than the 10 bytes that MAX_MESSAGE_BYTES allows; store" in reported[0]
    assert [each.message.body for each in messages] == [fits, b"2"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_end_of_a_line_does_not_count_towards_the_limit(run, stdin, settings, messages, end):
    settings.FASTSTREAM = {"default": {"URL": "memory://", "MAX_MESSAGE_BYTES": 10}}
    fits, long = b"1" * 10, b"1" * 11
    stdin(b"\r\n".join([fits, long, fits]) + end)

    error = run("orders", lines=True, verbosity=0)

    assert error.returncode == 1
    assert [line.partition(":")[0] for line in run.stderr.getvalue().splitlines()] == ["line 2"]
    assert [each.message.body for each in messages] == [fits, fits]


def test_a_long_line_is_skipped_in_pieces():
    sizes = []

    class Input(io.BytesIO):
        def readline(self, size=-1):
            sizes.append(size)
            return super().readline(size)

    read = list(read_lines(Input(b"1" * 1000 + b"\n2\n"), 10, None))

    assert [(number, body) for number, body, _ in read] == [(1, b"1" * 12), (2, b"2")]
    assert set(sizes) == {12}


def test_lines_with_another_content_type_need_not_be_json(run, stdin, messages):
    stdin(b"hello\n\xff\n")

    run("orders", lines=True, content_type="text/x-log")
    error = run("orders", lines=True, content_type="application/vnd.order+json; charset=utf-8")

    assert [each.message.body for each in messages] == [b"hello", b"\xff"]
    assert isinstance(error, str)  # there was nothing more to read


def test_lines_with_another_json_type_must_be_json(run, stdin, messages):
    stdin(b"hello\n")

    assert run("orders", lines=True, content_type="application/vnd.order+json").returncode == 1
    assert not messages


@pytest.mark.parametrize(("failure", "code"), [(MessageRejected("full"), 1), (ConnectionLost("lost"), 3)])
def test_lines_that_are_not_confirmed_are_reported(run, stdin, failure, code):
    stdin(b"nope\n1\n2\n")

    with capture_messages(fail_with=failure):
        error = run("orders", lines=True)

    assert error.returncode == code
    assert str(error).startswith("3 of the lines failed")
    assert run.stderr.getvalue().splitlines()[1:] == [f"line 2: {failure}", f"line 3: {failure}"]
    assert run.stdout.getvalue().startswith("confirmed 0 messages")


def test_where_publishing_stopped_is_said(run, stdin):
    stdin(b"1\n" * 1000)

    with capture_messages(fail_with=BrokerUnavailable("away")):
        error = run("orders", lines=True)

    assert (error.returncode, str(error)) == (
        1,
        f"Publishing stopped: nothing from line {CHUNK_MESSAGES + 1} on was sent.",
    )
    assert run.stderr.getvalue().splitlines() == [
        "line 1: away",
        "line 2: away",
        "line 3: away",
        f"lines 4-{CHUNK_MESSAGES}: BrokerUnavailable as above ({CHUNK_MESSAGES - 3} more)",
    ]


def test_lines_that_fail_alike_are_summed_up_by_kind(run, stdin):
    stdin(b"".join(b"%d\n" % number for number in range(1, 21)))
    errors = [MessageRejected("full")] * 4 + [ConnectionLost("lost")] * 4 + [MessageRejected("full")] * 12
    failing = iter(errors)

    with capture_messages(fail_with=lambda message: next(failing)):
        error = run("orders", lines=True)

    assert run.stderr.getvalue().splitlines() == [
        *(f"line {number}: full" for number in (1, 2, 3)),
        *(f"line {number}: lost" for number in (5, 6, 7)),
        "lines 4, 9-20: MessageRejected as above (13 more)",
        "line 8: ConnectionLost as above (1 more)",
    ]
    assert (error.returncode, str(error)[:23]) == (3, "20 of the lines failed,")


@pytest.mark.parametrize(
    "pretty", [b'{\n  "id": 1\n}\n', b"\n[\n  1,\n  2\n]\n", b"{\r\n}\r\n"], ids=["object", "list", "windows"]
)
def test_pretty_printed_json_is_refused_before_a_line_of_it_is_published(run, stdin, messages, pretty):
    """The 2 of the list is a line of JSON."""
    stdin(pretty)

    assert_usage(run("orders", lines=True), "goes over several lines", "`jq -c .`", "`jq -c '.[]'`")
    assert not messages


def test_options_of_the_message(run, messages):
    arguments = ["--message-id", "m-1", "--priority", "9", "--expiration", "1.5", "--no-mandatory"]

    run("orders", "BODY", *arguments)

    (captured,) = messages
    message = captured.message
    assert (message.message_id, message.priority, message.expiration) == ("m-1", 9, 1.5)
    assert message.mandatory is False


def test_app_id_of_the_settings(run, settings, messages):
    settings.FASTSTREAM = {"default": {**settings.FASTSTREAM["default"], "OPTIONS": {"app_id": "shop"}}}

    run("orders", "BODY")

    assert messages[0].message.app_id == "shop"


def test_hint_names_an_option_of_the_command(run, settings):
    settings.FASTSTREAM = {"default": {"URL": "memory://hint"}}

    error = run("absent", "BODY")

    assert "--no-mandatory" in str(error)
    assert "mandatory=" not in str(error)


def test_the_receivers_are_gone_afterwards(run, stdin, messages):
    before = list(message_published.receivers)
    stdin(b"1\n")

    run("orders", lines=True)

    assert message_published.receivers == before


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def _always_draw(monkeypatch):
    monkeypatch.setattr("faststream_django.management.publishing.progress.REFRESH", 0)


@pytest.mark.usefixtures("_always_draw")
def test_a_terminal_gets_a_progress_bar_for_a_file(run, messages, tmp_path):
    (tmp_path / "lines").write_text("1\n" * (2 * CHUNK_MESSAGES))

    run("orders", lines=True, file=str(tmp_path / "lines"), stderr=Terminal())

    drawn = run.stderr.getvalue().split("\r")
    assert f"[##########          ]  50%  {CHUNK_MESSAGES} confirmed, " in " ".join(drawn)
    assert drawn[-1] == ""
    assert drawn[-2].isspace()


@pytest.mark.usefixtures("_always_draw")
def test_a_terminal_gets_the_count_for_a_pipe_and_problems_on_lines_of_their_own(run, stdin, messages):
    stdin(b"1\n" * 512 + b"nope\n")

    run("orders", lines=True, stderr=Terminal())

    drawn = run.stderr.getvalue().split("\r")
    assert drawn[1].startswith("1 confirmed, ")
    assert "line 513: it is not JSON at column 1 (Expecting value); correct it\n" in drawn


@pytest.mark.usefixtures("_always_draw")
def test_no_progress_bar_without_a_terminal_or_with_verbosity_0(run, stdin, messages):
    stdin(b"1\n2\n")
    run("orders", lines=True)
    assert run.stderr.getvalue() == ""

    stdin(b"1\n2\n")
    run("orders", lines=True, stderr=Terminal(), verbosity=0)
    assert run.stderr.getvalue() == ""


# memory://


def test_a_message_arrives_in_the_embedded_broker(run, settings):
    url = f"memory://{uuid.uuid4().hex}"
    settings.FASTSTREAM = {"default": {"URL": url, "QUEUES": ["orders"]}}

    stdout = run("orders", '{"id": 1}')

    assert stdout.startswith("confirmed 1 message to queue 'orders'")
    assert [message.body for message in MemoryServer.get(url).drain("orders")] == [b'{"id": 1}']


def test_an_unroutable_message_is_not_sent(run, settings):
    settings.FASTSTREAM = {"default": {"URL": f"memory://{uuid.uuid4().hex}"}}

    error = run("absent", "x")

    assert error.returncode == 1


# A program of its own


class Program:
    """`python -m django faststream_publish` on a broker."""

    def __init__(self, path, url):
        self.path = path
        self.url = url

    def environment(self):
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": str(ROOT),
            "TEST_DATABASE": "sqlite",
            "TEST_FASTSTREAM_URL": self.url,
        }

    def command(self, *arguments):
        return [sys.executable, "-W", "error", "-m", "django", "faststream_publish", *arguments]

    def __call__(self, *arguments, stdin=b""):
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            cwd=self.path,
            env=self.environment(),
            timeout=60,
            check=False,
        )

    @contextmanager
    def started(self, *arguments, **options):
        with subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment(),
            start_new_session=True,
            **options,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


@pytest.fixture
def program(rabbitmq, tmp_path):
    return Program(tmp_path, rabbitmq.url())


@pytest.fixture
def queue(rabbitmq):
    name = rabbitmq.declare_queue(f"publish-{uuid.uuid4().hex}")
    yield name
    rabbitmq.recover()
    rabbitmq.delete_queue(name)


@pytest.mark.processes
def test_the_program_publishes_to_rabbitmq(program, rabbitmq, queue):
    done = program(queue, '{"id": 1}', "--header", "tenant=a", "--header", "n:=1")

    assert (done.returncode, done.stderr) == (0, b"")
    (stored,) = rabbitmq.drain(queue)
    assert stored.body == b'{"id": 1}'
    assert stored.properties.content_type == "application/json"
    assert stored.properties.delivery_mode == 2
    assert stored.headers == {"tenant": "a", "n": 1}
    assert done.stdout.decode().startswith(
        f"confirmed 1 message to queue '{queue}' (id {stored.properties.message_id}, "
    )
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.processes
def test_the_program_reads_a_pipe(program, rabbitmq, queue):
    done = program(queue, stdin=b"from a pipe")

    assert done.returncode == 0
    assert [stored.body for stored in rabbitmq.drain(queue)] == [b"from a pipe"]


@pytest.mark.processes
def test_the_program_publishes_5000_lines_but_the_3_bad_ones(program, rabbitmq, queue):
    lines = [json.dumps({"id": number}).encode() for number in range(5000)]
    lines[10], lines[2500], lines[4999] = b"{", b'"\xff"', b'"' + b"x" * 1_048_576 + b'"'
    (program.path / "orders.ndjson").write_bytes(b"\n".join(lines) + b"\n")

    done = program(queue, "--lines", "--file", "orders.ndjson")

    stored = [json.loads(each.body)["id"] for each in rabbitmq.drain(queue)]
    assert stored == [number for number in range(5000) if number not in {10, 2500, 4999}]
    assert done.returncode == 1
    assert done.stdout.decode().startswith(f"confirmed 4,997 messages to queue '{queue}' (")
    reported = done.stderr.decode().splitlines()
    assert [line.partition(": ")[0] for line in reported] == [
        "line 11",
        "line 2,501",
        "line 5,000",
        "CommandError",
    ]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["absent-queue", "x"], 1, "absent-queue"),
        (["--exchange", "absent", "--routing-key", "k", "x"], 1, "absent"),
        ([], 2, "Nothing says where to publish"),
        (["orders", "x", "--header", "bad"], 2, "--header number 1 is not NAME=VALUE"),
        (["orders", "x", "--broker", "defualt"], 2, "did you mean 'default'?"),
        (["orders", "x", "--tiemout", "1"], 2, "usage: "),
    ],
)
def test_the_exit_codes_of_the_program(program, arguments, code, text):
    done = program(*arguments)

    assert done.returncode == code
    assert text in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["x"], ["--lines"]])
def test_the_program_gives_an_unreachable_broker_up_in_time(tmp_path, unreachable_port, arguments):
    """Importing the driver is part of the first publish, and of its time."""
    program = Program(tmp_path, f"amqp://guest:hunter2@127.0.0.1:{unreachable_port}/")

    started = time.monotonic()
    done = program("orders", *arguments, "--timeout", "1", stdin=b"1\n2\n")

    assert time.monotonic() - started < 10
    assert done.returncode == 1, done.stderr
    assert b"hunter2" not in done.stderr + done.stdout


@pytest.mark.processes
def test_a_traceback_holds_no_password(tmp_path, unreachable_port):
    program = Program(tmp_path, f"amqp://guest:hunter2@127.0.0.1:{unreachable_port}/")

    done = program("orders", "x", "--timeout", "1", "--traceback")

    assert b"Traceback" in done.stderr
    assert b"hunter2" not in done.stderr + done.stdout


@pytest.mark.processes
def test_the_program_tells_an_unknown_outcome_by_its_exit_code(program, rabbitmq, queue):
    from tests.nodes import FaultProxy

    proxy = FaultProxy(rabbitmq.port)
    program.url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
    try:
        with program.started(queue, "--lines", stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdin.write(b"1\n" * 1024)
            process.stdin.flush()
            wait_until(lambda: rabbitmq.count(queue) >= 512)
            proxy.black_hole()
            process.stdin.write(b"2\n" * 1024)
            _, stderr = process.communicate(timeout=60)
    finally:
        proxy.close()

    assert process.returncode == 3
    *_, last, end = stderr.decode().splitlines()
    first_not_sent = int(re.findall(r"[\d,]+", last.partition(":")[0])[-1].replace(",", "")) + 1
    assert end == f"CommandError: Publishing stopped: nothing from line {first_not_sent:,} on was sent."


@pytest.fixture
def closed_pipe():
    """The end of a pipe that nobody reads, as in `faststream_publish ... | true`."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["{queue}", "x"], 0), (["absent", "x"], 1), ([], 2), (["{queue}", "x", "-v0"], 0)],
)
def test_exit_code_tells_the_outcome_when_nobody_reads_the_output(
    program, rabbitmq, queue, closed_pipe, arguments, code
):
    arguments = [argument.format(queue=queue) for argument in arguments]

    with program.started(*arguments, stdout=closed_pipe, stderr=subprocess.PIPE) as process:
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == code, stderr
    assert b"Traceback" not in stderr
    assert b"BrokenPipe" not in stderr
    assert rabbitmq.count(queue) == (code == 0)

    with program.started(*arguments, stdout=closed_pipe, stderr=closed_pipe) as process:
        process.wait(timeout=60)

    assert process.returncode == code


@pytest.mark.processes
def test_a_dry_run_of_the_program_connects_to_nothing(tmp_path, counting_port):
    done = Program(tmp_path, counting_port.url)("orders", "x", "--dry-run")

    assert done.returncode == 0
    assert done.stdout.startswith(b"would publish 1 message to queue 'orders'")
    assert counting_port.count == 0


INTERRUPTED = (
    r"CommandError: Interrupted: ([\d,]+) messages were confirmed\."
    r"(?: Up to ([\d,]+) more may have been sent\.)?\n"
)


@pytest.mark.processes
def test_ctrl_c_says_how_many_were_confirmed(program, rabbitmq, queue):
    with program.started(
        queue, "--lines", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(b"1\n" * 1000)
        process.stdin.flush()
        # The next chunk leaves once the first is counted.
        wait_until(lambda: rabbitmq.count(queue) > CHUNKS_UNDER_WAY * CHUNK_MESSAGES)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        stdout, stderr = process.stdout.read(), process.stderr.read()

    assert process.returncode == 130
    assert stdout == b""
    said = re.fullmatch(INTERRUPTED, stderr.decode())
    assert said, stderr
    confirmed, more = (int((number or "0").replace(",", "")) for number in said.groups())
    assert confirmed >= CHUNK_MESSAGES
    assert confirmed <= rabbitmq.count(queue) <= confirmed + more


@pytest.mark.processes
def test_lines_of_a_slow_pipe_leave_at_once(program, rabbitmq, queue):
    with program.started(
        queue, "--lines", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for count in (1, 2):
            process.stdin.write(b"1\n")
            process.stdin.flush()
            wait_until(lambda count=count: rabbitmq.count(queue) == count)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        stderr = process.stderr.read()

    assert process.returncode == 130
    assert stderr == b"CommandError: Interrupted: 2 messages were confirmed.\n"


@pytest.mark.processes
def test_ctrl_c_during_a_single_publish(tmp_path, counting_port):
    program = Program(tmp_path, counting_port.url)

    with program.started("orders", "x", "--timeout", "60", stderr=subprocess.PIPE) as process:
        counting_port.wait_for(1, timeout=20)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)

    assert process.returncode == 130
    assert b"Interrupted: 0 messages were confirmed. Up to 1 more may have been sent." in stderr


@pytest.mark.processes
def test_the_program_draws_on_a_real_terminal(program, rabbitmq, queue):
    (program.path / "lines").write_text("1\n" * 20_000)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    with program.started(
        queue, "--lines", "--file", "lines", stdin=slave, stdout=subprocess.PIPE, stderr=slave
    ) as process:
        os.close(slave)
        drawn = read_terminal(master)
        stdout, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert b" confirmed, " in drawn
    assert b"%" in drawn
    assert stdout.startswith(b"confirmed 20,000 messages")


@pytest.mark.processes
def test_the_program_holds_few_lines_in_memory(run_script):
    """Lines of 10 kB, 100 MB in all, with no more memory than a tenth of that."""
    done = run_script(
        """
        import io, resource, sys
        import django

        django.setup()
        from django.core.management import call_command

        class Input(io.RawIOBase):
            left = 10_000
            line = b'"' + b"x" * 10_000 + b'"\\n'

            def readline(self, limit=-1):
                self.left -= 1
                return self.line if self.left >= 0 else b""

            def fileno(self):
                raise OSError

        class Stdin:
            buffer = Input()

            def isatty(self):
                return False

        sys.stdin = Stdin()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call_command("faststream_publish", "orders", lines=True, dry_run=True)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
        """,
        env={"TEST_FASTSTREAM_URL": "amqp://127.0.0.1:1/"},
    )

    said, megabytes = done.stdout.splitlines()
    assert said == "would publish 10,000 messages to queue 'orders'"
    assert int(megabytes) < 10


def wait_until(condition, timeout=30):
    deadline = time.monotonic() + timeout
    pause = select.poll()
    while not condition():
        assert time.monotonic() < deadline
        pause.poll(20)


def read_terminal(master):
    drawn = b""
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            os.close(master)
            return drawn
        drawn += part
