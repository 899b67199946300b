import io

import pytest
from django.core.management import CommandError

from faststream_django.connection.bulk import CHUNK_MESSAGES
from faststream_django.exceptions import BrokerUnavailable, ConnectionLost, MessageRejected
from faststream_django.management.publishing.bodies import read_lines
from faststream_django.signals import message_published
from faststream_django.testing import capture_messages


def assert_usage(error, *texts):
    assert isinstance(error, CommandError)
    assert error.returncode == 2 or "Error:" in str(error)  # argparse raises without a code here
    for text in texts:
        assert text in str(error)


@pytest.fixture(autouse=True)
def _rabbit(settings, counting_port):
    """By default a broker that would be seen to be connected to, and where nothing arrives."""
    settings.FASTSTREAM = {"default": {"URL": counting_port.url, "MAX_MESSAGE_BYTES": 10_000_000}}


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
