"""The command for dead letters: what it shows, does, asks and refuses."""

import datetime as dt
import io
import json

import pytest
from django.core.management import CommandError, call_command

from tests.dead_letters.buried import ERROR, bury, ids_in
from tests.dead_letters.conftest import configure, make_queue, queue  # noqa: F401 - fixtures here, too
from tests.worker.conftest import make_app  # noqa: F401

SECRET = "s3cret-marker"


@pytest.fixture
def kind():
    return "classic"


@pytest.fixture
def run(configure, queue, answer):  # noqa: F811
    """Run the command in this process; return what it wrote, or its CommandError."""
    configure(queue)

    def run(*arguments, **options):
        run.stdout, run.stderr = io.StringIO(), io.StringIO()
        try:
            call_command(
                "faststream_deadletters",
                *map(str, arguments),
                stdout=run.stdout,
                stderr=run.stderr,
                no_color=True,
                **options,
            )
        except CommandError as error:
            return error
        return run.stdout.getvalue()

    return run


def failed(**length):
    return {"faststream-failed-at": dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(**length)}


# list


def test_list_counts_the_dead_letters_of_each_queue(rabbitmq, run, configure, make_queue, queue):  # noqa: F811
    other = make_queue()
    configure(queue, other, "never-dead")
    bury(rabbitmq, queue, 3)

    lines = run("list").splitlines()

    assert lines[0].split() == ["QUEUE", "DEAD", "LETTERS"]
    assert sorted(line.split() for line in lines[1:]) == sorted([[queue, "3"], [other, "0"]])
    assert [json.loads(line) for line in run("list", "--json").splitlines()] == [
        {"queue": name, "count": {queue: 3, other: 0}[name]} for name in sorted([queue, other])
    ]


def test_list_of_a_queue_says_why_each_is_dead(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 1, **failed(minutes=5))
    bury(rabbitmq, queue, 1, first=1, **{"faststream-failed-at": "?", "faststream-error": "x\x1b[31m"})

    lines = run("list", "--queue", queue).splitlines()

    assert lines[0].split() == ["ID", "FAILED", "ATTEMPTS", "REASON", "ERROR"]
    assert lines[1].split(maxsplit=6) == ["m-0", "5", "min", "ago", "5", "failed", ERROR]
    assert lines[2].split() == ["m-1", "-", "5", "failed", "x\\x1b[31m"]
    assert ids_in(rabbitmq, f"{queue}.dlq", 2) == ["m-0", "m-1"]


def test_list_is_bounded_and_says_so(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 25)

    lines = run("list", "--queue", f"{queue}.dlq").splitlines()
    assert len(lines) == 22
    assert lines[-1] == "... and 5 more behind them"

    found = [json.loads(line) for line in run("list", "--queue", queue, "--limit", 2, "--json").splitlines()]
    assert [each["id"] for each in found] == ["m-0", "m-1"]
    assert found[0].keys() == {"id", "queue", "failed_at", "attempts", "reason", "error", "bytes"}


def test_list_never_shows_headers_or_bodies(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 1, tenant=SECRET)

    for arguments in (("list",), ("list", "--queue", queue), ("list", "--queue", queue, "--json")):
        assert SECRET not in run(*arguments)


# show


def test_show_tells_everything_but_the_body(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 3)

    shown = run("show", "m-1")

    assert f"error: {ERROR}" in shown
    assert '"tenant": "acme"' in shown
    assert '"number"' not in shown
    found = json.loads(run("show", "m-1", "--queue", queue, "--json"))
    assert found["headers"]["tenant"] == "acme"
    assert found["properties"]["content_type"] == "application/json"
    assert "body" not in found
    assert ids_in(rabbitmq, f"{queue}.dlq", 3) == ["m-0", "m-1", "m-2"]


def test_show_tells_the_body_where_it_is_asked_for(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 3)

    assert '"number": 1' in run("show", "m-1", "--body")
    assert json.loads(json.loads(run("show", "m-1", "--body", "--json"))["body"]) == {"number": 1}


def test_what_the_settings_name_is_hidden(rabbitmq, run, configure, queue):  # noqa: F811
    configure(queue, OUTBOX={"REDACT": ["tenant", "number"]})
    bury(rabbitmq, queue, 1)

    shown = json.loads(run("show", "m-0", "--body", "--json"))

    assert shown["headers"]["tenant"] == "***"
    assert json.loads(shown["body"]) == {"number": "***"}


def test_show_of_an_unknown_id_fails(run):
    error = run("show", "m-7")

    assert str(error) == "m-7 is not among the dead letters."
    assert error.returncode == 1


# replay


def test_replay_moves_them_back(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 5)

    assert run("replay", "--queue", queue) == f"Replayed 5 of 5 dead letters of {queue!r}\n"

    assert ids_in(rabbitmq, queue) == [f"m-{number}" for number in range(5)]


def test_replay_goes_through_all_queues(rabbitmq, run, configure, make_queue, queue):  # noqa: F811
    other = make_queue()
    configure(queue, other)
    bury(rabbitmq, queue, 2)
    bury(rabbitmq, other, 3)

    lines = [json.loads(line) for line in run("replay", "--json").splitlines()]

    assert {each["queue"]: each["done"] for each in lines} == {queue: 2, other: 3}
    assert all(each["is_complete"] for each in lines)
    assert run("replay") == "There are no dead letters.\n"


def test_replay_of_some_by_id_or_number(rabbitmq, run, configure, make_queue, queue):  # noqa: F811
    other = make_queue()
    configure(queue, other)
    bury(rabbitmq, queue, 4)
    bury(rabbitmq, other, 2, first=4)

    run("replay", "m-2", "m-5")
    assert (ids_in(rabbitmq, queue), ids_in(rabbitmq, other)) == (["m-2"], ["m-5"])

    run("replay", "--queue", queue, "--limit", 2, "--to", other)
    assert (ids_in(rabbitmq, queue), ids_in(rabbitmq, other)) == ([], ["m-0", "m-1"])


def test_replay_that_cannot_do_everything_says_what_and_why(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 1, **{"faststream-queue": 7})
    bury(rabbitmq, queue, 1, first=1)

    error = run("replay", "--queue", queue, "m-0", "m-1", "m-9")

    assert str(error).splitlines() == ["m-9 is not among the dead letters.", "Not everything was done."]
    assert error.returncode == 1
    assert run.stdout.getvalue() == f"Replayed 1 of 2 dead letters of {queue!r}\n"
    assert "m-0 was left alone: nothing in its headers" in run.stderr.getvalue()


def test_replay_to_a_missing_queue_fails_and_keeps_all(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 2)

    error = run("replay", "--queue", queue, "--to", "unknown")

    assert error.returncode == 1
    assert "there is no queue 'unknown' to replay to" in run.stderr.getvalue()
    assert ids_in(rabbitmq, f"{queue}.dlq", 2) == ["m-0", "m-1"]


def test_queue_that_has_no_dead_letters_is_told(run):
    error = run("replay", "--queue", "unknown")

    assert "there is no queue 'unknown.dlq'" in str(error)
    assert error.returncode == 1


# discard


def test_discard_asks_first(rabbitmq, run, answer, queue):  # noqa: F811
    bury(rabbitmq, queue, 3)

    answer("n\n")
    assert str(run("discard", "m-1")) == "Nothing was deleted."
    answer("yes\n")
    assert "Delete m-1 for good? [y/N] Discarded 1 of 3" in run("discard", "m-1")

    assert ids_in(rabbitmq, f"{queue}.dlq", 2) == ["m-0", "m-2"]


def test_discard_refuses_where_nobody_can_answer(rabbitmq, run, queue):  # noqa: F811
    bury(rabbitmq, queue, 2)

    error = run("discard", "--queue", queue, "--all")

    assert str(error).startswith(f"Delete all 2 dead letters of {queue!r} for good? Nobody can answer here")
    assert error.returncode == 2
    assert ids_in(rabbitmq, f"{queue}.dlq", 2) == ["m-0", "m-1"]


def test_discard_of_all_and_of_old_ones(rabbitmq, run, answer, queue):  # noqa: F811
    bury(rabbitmq, queue, 2, **failed(hours=3))
    bury(rabbitmq, queue, 2, first=2)

    answer("y\n")
    assert "that died more than 1 h ago?" in run("discard", "--queue", queue, "--older-than", "1h")
    assert (
        run("discard", "--queue", queue, "--all", "--yes") == f"Discarded 2 of 2 dead letters of {queue!r}\n"
    )
    assert rabbitmq.count(f"{queue}.dlq") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--queue", "orders"),
        ("--all",),
        ("--older-than", "1d"),
        ("m-1", "--queue", "orders", "--all"),
        ("--queue", "orders", "--all", "--older-than", "1d"),
    ],
)
def test_discard_must_know_what_is_meant(run, arguments):
    error = run("discard", *arguments, "--yes")

    assert error.returncode == 2
    assert "--queue" in str(error)


# What is wrong


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("unknown",),
        ("list", "--limit", "0"),
        ("list", "--limit", "many"),
        ("discard", "--queue", "orders", "--older-than", "soon"),
        ("show",),
    ],
)
def test_wrong_usage_is_told(run, arguments):
    error = run(*arguments)

    assert isinstance(error, CommandError)


def test_unknown_broker_is_wrong_usage(run):
    error = run("list", "--broker", "unknown")

    assert "no broker 'unknown'" in str(error)
    assert error.returncode == 2


def test_embedded_broker_is_somewhere_else(run, settings):
    settings.FASTSTREAM = {"default": {"URL": "memory://"}}

    error = run("list")

    assert "memory of the process that publishes" in str(error)
    assert error.returncode == 2


def test_broker_that_is_away_is_told_without_its_url(run, configure, unreachable_port):  # noqa: F811
    configure(URL=f"amqp://shop:{SECRET}@127.0.0.1:{unreachable_port}/")

    for arguments in (("list",), ("show", "m-0"), ("replay",), ("discard", "m-0", "--yes")):
        error = run(*arguments, "--queue", "orders")
        assert str(error).startswith("Broker 'default': ")
        assert SECRET not in str(error)
        assert error.__cause__ is None
        assert error.returncode == 1


def test_subscribers_that_cannot_be_imported_leave_a_way(rabbitmq, run, make_app, queue):  # noqa: F811
    make_app("raise RuntimeError('broken')")
    bury(rabbitmq, queue, 2)

    error = run("replay")

    assert "cannot be imported, so name the queue with --queue. RuntimeError: broken" in str(error)
    assert run("replay", "--queue", queue).startswith("Replayed 2 of 2")
