"""``manage.py faststream_outbox``: see what waits in the outbox, and decide about what is dead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from faststream_django.exceptions import OutboxNotReady
from faststream_django.management.asking import (
    INTERRUPTED,
    NOT_DONE,
    USAGE,
    ask,
    database_of,
    duration,
)
from faststream_django.management.publishing.output import PatientOutput
from faststream_django.outbox.durations import spoken
from faststream_django.outbox.listing import COLUMNS, as_row, listed
from faststream_django.outbox.models import OutboxMessage, State
from faststream_django.outbox.operating import (
    discard,
    prunable,
    retry,
    rows_named,
    stats,
)
from faststream_django.outbox.printing import as_table, printable
from faststream_django.outbox.selecting import DEAD, WORDS, Selection
from faststream_django.outbox.tables import refuse_without_tables

if TYPE_CHECKING:
    from argparse import ArgumentParser

SHOWN = 20
"""The most messages that are listed before somebody is asked."""


class Command(BaseCommand):
    """See what waits, and decide about what is dead."""

    help = (
        "Shows the messages in the outbox, and retries or deletes them. "
        "Exit codes: 0 done, 1 not done or not all of it, 2 wrong usage, 130 interrupted."
    )
    requires_system_checks = ("faststream_django",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stdout, self.stderr = PatientOutput.around(self.stdout), PatientOutput.around(self.stderr)

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

        def action(name: str, text: str) -> ArgumentParser:
            added: ArgumentParser = actions.add_parser(name, help=text, description=text)
            added.add_argument(
                "--database",
                metavar="A",
                help="The alias of the database; by default the one that the routers choose for writing.",
            )
            return added

        def add_json(added: ArgumentParser, text: str) -> None:
            added.add_argument("--json", action="store_true", help=text)

        def add_selection(added: ArgumentParser) -> None:
            added.add_argument("--queue", metavar="Q", help="Only this queue, or routing key of an exchange.")
            added.add_argument("--broker", metavar="ALIAS", help="Only this broker in FASTSTREAM.")

        def add_yes(added: ArgumentParser) -> None:
            added.add_argument("--yes", action="store_true", help="Do not ask.")

        def add_ids(added: ArgumentParser, nargs: str) -> None:
            added.add_argument("ids", nargs=nargs, metavar="ID", help="The id of a row, or of a message.")

        add_json(
            action("stats", "Counts what waits for each broker, and says which relay sends."), "As JSON."
        )
        added = action("list", "Lists messages, the oldest first; never their bodies.")
        added.add_argument("--state", choices=tuple(WORDS), help="Only what is in this state.")
        added.add_argument(
            "--older-than", type=duration, metavar="T", help="Only older ones: 30s, 5m, 1h, 7d."
        )
        add_selection(added)
        add_json(added, "A JSON object a line.")
        added = action("retry", "Has dead messages sent again as if for the first time.")
        add_ids(added, "*")
        added.add_argument("--all", action="store_true", help="All that are dead.")
        add_selection(added)
        added = action("discard", "Deletes messages for good, whatever their state. Asks before.")
        add_ids(added, "+")
        add_yes(added)
        added = action("prune", "Deletes for good what has been dead for long. Asks before.")
        added.add_argument(
            "--older-than", type=duration, metavar="T", required=True, help="Dead for longer: 12h, 7d."
        )
        add_selection(added)
        add_yes(added)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        self.options = options
        try:
            self.using = database_of(OutboxMessage, self.options["database"])
            refuse_without_tables(self.using)
            getattr(self, f"_{options['action']}")()
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None
        except OutboxNotReady as error:
            raise CommandError(str(error), returncode=NOT_DONE) from None
        except DatabaseError as error:
            reason = next(iter(str(error).splitlines()), "")
            raise CommandError(
                f"The database {self.using!r} failed: {type(error).__name__}: {reason}", returncode=NOT_DONE
            ) from None

    def _stats(self) -> None:
        found = stats(self.using)
        if self.options["json"]:
            self.stdout.write(json.dumps(found))
            return
        headings = ("BROKER", "READY", "WAITING", "DEAD", "OLDEST", "LEADER", "LAST SEEN")
        rows = (
            (
                printable(broker),
                f"{each['ready']:,}",
                f"{each['waiting']:,}",
                f"{each['dead']:,}",
                _spoken_or_dash(each["oldest_age_seconds"]),
                printable(each["leader"] or "-"),
                _spoken_or_dash(each["lease_age_seconds"], " ago"),
            )
            for broker, each in found.items()
        )
        self._write_all(as_table(rows, headings))

    def _list(self) -> None:
        chosen = Selection(
            states=WORDS.get(self.options["state"], ()),
            older_than=self.options["older_than"],
            **self._narrowing(),
        )
        found = listed(self.using, chosen)
        self._write_all(
            map(json.dumps, found) if self.options["json"] else as_table(map(as_row, found), COLUMNS)
        )

    def _retry(self) -> None:
        narrowing = self._narrowing()
        if self.options["all"] == bool(self.options["ids"]):
            raise CommandError("Name the messages, or pass --all, and not both.", returncode=USAGE)
        if self.options["all"]:
            count = retry(self.using, Selection(states=DEAD, **narrowing))
            self._say(f"{_messages(count)} will be sent again")
            return
        if narrowing["queue"] is not None or narrowing["broker"] is not None:
            raise CommandError("--queue and --broker narrow down --all; leave them out.", returncode=USAGE)
        ids, unknown = self._rows()
        rows = OutboxMessage.objects.using(self.using).filter(pk__in=ids)
        alive = rows.exclude(state__in=DEAD).values_list("message_id", flat=True)
        problems = [*unknown, *(f"{printable(each)} is not dead: it will be sent anyway" for each in alive)]
        if count := retry(self.using, ids):
            self._say(f"{_messages(count)} will be sent again")
        self._refuse(problems)

    def _discard(self) -> None:
        ids, unknown = self._rows()
        if ids:
            self._write_all(as_table(map(as_row, listed(self.using, ids[:SHOWN])), COLUMNS))
            if len(ids) > SHOWN:
                self.stdout.write(f"... and {_messages(len(ids) - SHOWN)} more")
            self._confirm(f"Delete {_messages(len(ids))} for good?")
            self._say(f"{_messages(discard(self.using, ids))} deleted")
        self._refuse(unknown)

    def _prune(self) -> None:
        seconds = self.options["older_than"]
        chosen = prunable(seconds, **self._narrowing())
        if not self.options["yes"]:
            count = chosen.count(self.using)
            if count:
                self._confirm(f"Delete {_messages(count)} for good, dead for more than {spoken(seconds)}?")
        self._say(f"{_messages(discard(self.using, chosen))} deleted")
        held = Selection(states=(State.HOLDING,), dead_for=seconds, **self._narrowing()).count(self.using)
        if held:
            self._say(
                f"{_messages(held)} left that hold back later ones of the same key: retry or discard them"
            )

    def _narrowing(self) -> dict[str, Any]:
        return {"queue": self.options["queue"], "broker": self.options["broker"]}

    def _rows(self) -> tuple[list[int], list[str]]:
        """Return the rows that were named, and what is wrong with the other names."""
        ids: list[int] = []
        unknown: list[str] = []
        for name in dict.fromkeys(self.options["ids"]):
            found = rows_named(self.using, name)
            ids += found
            if not found:
                unknown.append(
                    f"{printable(name)} is not in the outbox: it was sent or discarded, or never stored"
                )
        return list(dict.fromkeys(ids)), unknown

    def _confirm(self, question: str) -> None:
        if not self.options["yes"]:
            ask(self.stdout, question)

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise CommandError("\n".join(problems), returncode=NOT_DONE)

    def _write_all(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.stdout.write(line)
            if not getattr(self.stdout, "has_reader", True):  # of a stream given to call_command(), True
                return

    def _say(self, text: str) -> None:
        if self.options["verbosity"]:
            self.stdout.write(text)


def _spoken_or_dash(seconds: float | None, suffix: str = "") -> str:
    return "-" if seconds is None else f"{spoken(seconds)}{suffix}"


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"
