"""The command of the operators: what it shows, deletes, asks and refuses."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from faststream_django.inbox import operating
from faststream_django.inbox.models import HandledMessage
from faststream_django.inbox.operating import moment_ago
from tests.inbox.recorded import record_at

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]

HOUR = 3600.0
MODULE = "faststream_django.inbox.management.commands.faststream_inbox"


@pytest.fixture
def run(answer):
    """Run the command in this process; return what it wrote, or its CommandError."""

    def run(*arguments, **options):
        run.stdout = stdout = io.StringIO()
        try:
            call_command("faststream_inbox", *map(str, arguments), stdout=stdout, no_color=True, **options)
        except CommandError as error:
            return error
        return stdout.getvalue()

    return run


def record(*ages, using="default"):
    now = moment_ago(using, 0)
    record_at(*(now - age for age in ages), using=using)


def count(using="default"):
    return HandledMessage.objects.using(using).count()


def test_stats_are_a_sentence(run):
    assert run("stats") == "0 messages recorded\n"

    record(50 * HOUR, 7200 + 30)
    assert run("stats") == "2 messages recorded, the oldest handled 2 d 2 h ago, the newest 2 h ago\n"


def test_stats_as_json_say_the_same_to_programs(run):
    record(HOUR)

    found = json.loads(run("stats", "--json"))

    assert list(found) == ["messages", "oldest_age_seconds", "newest_age_seconds"]
    assert found["messages"] == 1
    assert json.loads(run("stats", "--json", "--database", "other"))["messages"] == 0


def test_prune_asks_and_forgets(run, answer):
    record(2 * HOUR, 2 * HOUR, 60)

    answer("n\n")
    error = run("prune", "--older-than", "1h")
    assert (error.returncode, str(error)) == (1, "Nothing was forgotten.")
    assert count() == 3

    answer("y\n")
    text = run("prune", "--older-than", "1h")
    assert text == "Forget 2 messages handled more than 1 h ago? [y/N] 2 messages forgotten\n"
    assert count() == 1


def test_nothing_is_forgotten_where_nobody_can_answer(run):
    record(2 * HOUR)

    error = run("prune", "--older-than", "1h")
    assert error.returncode == 2
    assert "--yes" in str(error)
    assert count() == 1

    assert run("prune", "--older-than", "1h", "--yes") == "1 message forgotten\n"
    assert run("prune", "--older-than", "1h") == "0 messages forgotten\n"


def test_prune_is_for_the_database_that_is_named(run):
    for using in ("default", "other"):
        record(2 * HOUR, using=using)

    assert run("prune", "--older-than", "1h", "--yes", "--database", "other") == "1 message forgotten\n"
    assert (count("default"), count("other")) == (1, 0)


def test_verbosity_0_says_nothing(run):
    record(2 * HOUR)

    assert run("prune", "--older-than", "1h", "--yes", verbosity=0) == ""
    assert count() == 0


def test_unknown_database_is_refused(run):
    error = run("stats", "--database", "otter")

    assert error.returncode == 2
    assert "no database 'otter' in DATABASES; its aliases are 'default'" in str(error)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "ACTION"),
        (("prune",), "--older-than"),
        (("prune", "--older-than", "7"), "'7' is no duration: write a number and s, m, h or d"),
    ],
)
def test_wrong_arguments_are_refused(run, arguments, text):
    """With exit code 2 in a shell, where argparse ends the process."""
    assert text in str(run(*arguments))


def test_missing_table_says_how_to_make_it(run, monkeypatch):
    monkeypatch.setattr(HandledMessage._meta, "db_table", "not_migrated")

    error = run("stats")

    assert error.returncode == 1
    assert "manage.py migrate faststream_inbox --database default" in str(error)


def test_interruption_says_what_is_done(run, monkeypatch):
    def interrupted(*args):
        yield from (operating.BATCH, 7)
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{MODULE}.prune", interrupted)

    error = run("prune", "--older-than", "1h", "--yes")

    assert error.returncode == 130
    assert str(error) == "Interrupted. 1,007 messages forgotten."


def test_failing_database_is_no_traceback(run, monkeypatch):
    from django.db import OperationalError

    def failing(*args):
        raise OperationalError("server closed the connection\nLINE 1: SELECT ...")

    monkeypatch.setattr(f"{MODULE}.stats", failing)

    error = run("stats")

    assert error.returncode == 1
    assert str(error) == "The database 'default' failed: OperationalError: server closed the connection"
