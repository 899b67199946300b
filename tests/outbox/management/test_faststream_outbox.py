"""The command of the operators: what it shows, does, asks and refuses."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.printing import printable
from tests.outbox.stored import lead, store

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]

HOUR = 3600.0


@pytest.fixture
def run(outbox, answer):
    """Run the command in this process; return what it wrote, or its CommandError."""

    def run(*arguments, **options):
        run.stdout = stdout = io.StringIO()
        try:
            call_command("faststream_outbox", *map(str, arguments), stdout=stdout, no_color=True, **options)
        except CommandError as error:
            return error
        return stdout.getvalue()

    return run


def count(using="default"):
    return OutboxMessage.objects.using(using).count()


def test_stats_are_a_table(run):
    store(age=7500)
    store(state=State.DEAD)
    lead(holder="web-1:42", seen=3)

    lines = run("stats").splitlines()

    assert lines[0].split() == ["BROKER", "READY", "WAITING", "DEAD", "OLDEST", "LEADER", "LAST", "SEEN"]
    assert lines[1].startswith("default  1      0        1     2 h 5 min  web-1:42  ")
    assert lines[1].endswith(" s ago")


def test_stats_as_json_say_the_same_to_programs(run):
    store(age=HOUR)

    found = json.loads(run("stats", "--json"))

    assert list(found["default"]) == [
        "ready",
        "waiting",
        "dead",
        "oldest_age_seconds",
        "leader",
        "lease_age_seconds",
    ]
    assert found["default"]["ready"] == 1
    assert json.loads(run("stats", "--json", "--database", "other"))["default"]["ready"] == 0


def test_list_shows_messages_without_their_bodies(run):
    store(body=b'"secret"', properties='{"headers":{"token":"secret"}}', message_id="order-7", age=120)
    store(
        state=State.RETRYING, ordering_key="o-1", exchange="events", attempts=3, due_in=200, last_error="full"
    )

    text, lines = run("list"), run("list", "--json").splitlines()

    assert "order-7" in text
    assert "2 min" in text
    assert "events/orders" in text
    assert "in 3 min" in text
    assert "secret" not in text + "".join(lines)
    assert [json.loads(line)["state"] for line in lines] == ["ready", "waiting"]
    assert json.loads(lines[1])["ordering_key"] == "o-1"


def test_list_of_nothing_is_its_heading(run):
    assert run("list").split()[:3] == ["ID", "MESSAGE", "ID"]
    assert run("list", "--json") == ""


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), ["old", "dead", "mail", "wait", "event"]),
        (("--state", "ready"), ["old", "mail", "event"]),
        (("--state", "waiting"), ["wait"]),
        (("--state", "dead"), ["dead"]),
        (("--queue", "mails"), ["mail"]),
        (("--older-than", "1h"), ["old", "dead"]),
        (("--state", "dead", "--older-than", "3h"), []),
        (("--broker", "events"), ["event"]),
    ],
)
def test_list_is_narrowed(run, arguments, found):
    store(message_id="old", age=2 * HOUR)
    store(message_id="dead", age=2 * HOUR, state=State.HOLDING)
    store(message_id="mail", routing_key="mails")
    store(message_id="wait", state=State.WAITING, due_in=60)
    store(message_id="event", broker="events")

    lines = run("list", "--json", *arguments).splitlines()

    assert [json.loads(line)["message_id"] for line in lines] == found


def test_terminal_is_not_told_anything_by_a_message(run):
    store(message_id="a\x1b[2Jb", last_error="x\ny")

    text = run("list")

    assert "a\\x1b[2Jb" in text
    assert "x\\x0ay" in text
    assert printable("größe") == "größe"


def test_list_goes_on_for_longer_than_a_screen(run):
    OutboxMessage.objects.bulk_create(
        OutboxMessage(broker="default", message_id=str(n), body=b"", properties="{}", created_at=0)
        for n in range(1100)
    )

    assert len(run("list").splitlines()) == 1101


@pytest.mark.parametrize("by_message", [True, False])
def test_retry_of_messages_by_either_id(run, by_message):
    row = store(state=State.DEAD, attempts=10)

    assert run("retry", row.message_id if by_message else row.pk) == "1 message will be sent again\n"

    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.WAITING, 0)


def test_retry_says_what_it_cannot_do_and_does_the_rest(run):
    dead, ready = store(state=State.DEAD), store()

    error = run("retry", dead.pk, ready.pk, "nobody")

    assert error.returncode == 1
    assert "nobody is not in the outbox" in str(error)
    assert f"{ready.message_id} is not dead" in str(error)
    assert run.stdout.getvalue() == "1 message will be sent again\n"


def test_retry_of_all_dead_messages_of_a_queue(run):
    store(state=State.DEAD)
    store(state=State.DEAD, routing_key="mails")

    assert run("retry", "--all", "--queue", "mails") == "1 message will be sent again\n"
    assert run("retry", "--all") == "1 message will be sent again\n"
    assert run("retry", "--all") == "0 messages will be sent again\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("retry",), "Name the messages, or pass --all"),
        (("retry", "--all", "7"), "and not both"),
        (("retry", "7", "--queue", "orders"), "leave them out"),
        (("list", "--database", "otter"), "no database 'otter' in DATABASES; its aliases are 'default'"),
    ],
)
def test_wrong_usage_is_refused(run, arguments, text):
    error = run(*arguments)

    assert error.returncode == 2
    assert text in str(error)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "ACTION"),
        (("prune",), "--older-than"),
        (("prune", "--older-than", "7"), "'7' is no duration: write a number and s, m, h or d"),
        (("list", "--state", "lost"), "'lost'"),
        (("discard",), "ID"),
    ],
)
def test_wrong_arguments_are_refused(run, arguments, text):
    """With exit code 2 in a shell, where argparse ends the process."""
    assert text in str(run(*arguments))


def test_discard_shows_and_asks(run, answer):
    row = store(message_id="order-7")

    answer("n\n")
    error = run("discard", row.pk)
    assert (error.returncode, str(error)) == (1, "Nothing was deleted.")
    assert "order-7" in run.stdout.getvalue()
    assert "Delete 1 message for good? [y/N]" in run.stdout.getvalue()
    assert count() == 1

    answer("y\n")
    assert run("discard", row.pk).endswith("1 message deleted\n")
    assert count() == 0


def test_end_of_input_is_a_no(run, answer):
    answer("")

    assert run("discard", store().pk).returncode == 1
    assert count() == 1


@pytest.mark.parametrize("arguments", [("discard", "order-7"), ("prune", "--older-than", "1h")])
def test_nothing_is_destroyed_where_nobody_can_answer(run, arguments):
    store(message_id="order-7", state=State.DEAD, age=2 * HOUR)

    error = run(*arguments)
    assert error.returncode == 2
    assert "--yes" in str(error)
    assert count() == 1

    assert run(*arguments, "--yes").endswith("1 message deleted\n")
    assert count() == 0


def test_discard_shows_the_first_of_many(run):
    rows = [store() for _ in range(25)]

    text = run("discard", *(row.pk for row in rows), "--yes")

    assert "... and 5 messages more" in text
    assert text.endswith("25 messages deleted\n")


def test_discard_of_unknown_ids_deletes_the_others(run):
    row = store()

    error = run("discard", row.pk, "nobody", "--yes")

    assert error.returncode == 1
    assert count() == 0
    assert "was sent or discarded" in str(run("discard", "nobody"))


def test_prune_deletes_what_is_dead_for_long(run, answer):
    store(state=State.DEAD, age=8 * HOUR)
    store(state=State.DEAD, age=8 * HOUR, routing_key="mails")
    store(state=State.DEAD)
    store(age=8 * HOUR)

    answer("yes\n")
    text = run("prune", "--older-than", "1h", "--queue", "mails")
    assert text == ("Delete 1 message for good, dead for more than 1 h? [y/N] 1 message deleted\n")
    assert run("prune", "--older-than", "1h", "--yes") == "1 message deleted\n"
    assert run("prune", "--older-than", "1h") == "0 messages deleted\n"
    assert count() == 2


def test_prune_leaves_what_holds_back_its_key(run):
    store(state=State.HOLDING, age=8 * HOUR)

    text = run("prune", "--older-than", "1h", "--yes")

    assert text.startswith("0 messages deleted\n1 message left that hold")
    assert count() == 1


def test_each_action_is_for_the_database_that_is_named(run):
    for using in ("default", "other"):
        store(using, state=State.DEAD, age=HOUR, message_id="order-7")

    assert run("retry", "order-7", "--database", "other") == "1 message will be sent again\n"
    assert run("prune", "--older-than", "1s", "--yes", "--database", "other") == "0 messages deleted\n"
    assert run("discard", "order-7", "--yes", "--database", "other").endswith("1 message deleted\n")
    assert (count("default"), count("other")) == (1, 0)


def test_verbosity_0_says_nothing(run):
    assert run("retry", store(state=State.DEAD).pk, verbosity=0) == ""


def test_missing_table_says_how_to_make_it(run, monkeypatch):
    monkeypatch.setattr(OutboxMessage._meta, "db_table", "not_migrated")

    error = run("stats")

    assert error.returncode == 1
    assert "manage.py migrate faststream_outbox --database default" in str(error)


def test_interruption_has_its_own_code(run, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    module = "faststream_django.outbox.management.commands.faststream_outbox"
    monkeypatch.setattr(f"{module}.stats", interrupted)

    assert run("stats").returncode == 130


def test_failing_database_is_no_traceback(run, monkeypatch):
    from django.db import OperationalError

    def failing(*args):
        raise OperationalError("server closed the connection\nLINE 1: SELECT ...")

    module = "faststream_django.outbox.management.commands.faststream_outbox"
    monkeypatch.setattr(f"{module}.stats", failing)

    error = run("stats")

    assert error.returncode == 1
    assert str(error) == "The database 'default' failed: OperationalError: server closed the connection"


@pytest.mark.processes
def test_list_stops_where_nobody_reads_on(run_script):
    """Of a million rows, `| head` costs what it shows: no error, and no reading to the end."""
    done = run_script(
        """
        import subprocess
        import sys

        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from faststream_django.outbox.models import OutboxMessage

        OutboxMessage.objects.bulk_create(
            OutboxMessage(broker="default", message_id="x" * 200, body=b"", properties="{}", created_at=0)
            for n in range(20_000)
        )
        counted = (
            "from django.core.management import execute_from_command_line as execute; "
            "import django; django.setup(); from faststream_django.outbox import listing; "
            "shown, count = listing._shown, [0]; "
            "listing._shown = lambda *args: count.__setitem__(0, count[0] + 1) or shown(*args); "
            "execute(['manage.py', 'faststream_outbox', 'list']); "
            "sys.exit(0 if count[0] < 20_000 else 9)"
        )
        command = f'{sys.executable} -W error -c "import sys; {counted}" | head -2; exit ${{PIPESTATUS[0]}}'
        sys.exit(subprocess.run(["bash", "-c", command]).returncode)
        """
    )

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""
