"""The command, by call_command() and as a program of its own."""

import sys
import uuid

import pytest
from django.core.management import CommandError

from faststream_django.backends.memory.server import MemoryServer
from faststream_django.exceptions import BrokerUnavailable, ConnectionLost, MessageRejected
from faststream_django.testing import capture_messages


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
