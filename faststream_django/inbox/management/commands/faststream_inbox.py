"""``manage.py faststream_inbox``: see how much is recorded, and delete what is old."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from faststream_django.exceptions import InboxNotReady
from faststream_django.inbox.models import HandledMessage
from faststream_django.inbox.operating import count_before, moment_ago, prune, stats
from faststream_django.inbox.tables import refuse_unready
from faststream_django.management.asking import INTERRUPTED, NOT_DONE, ask, database_of, duration
from faststream_django.management.publishing.output import PatientOutput
from faststream_django.outbox.durations import spoken

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """See how much is recorded, and delete what is old."""

    help = (
        "Counts the messages that are recorded as handled, and forgets old ones. "
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

        added = action("stats", "Counts the messages that are recorded.")
        added.add_argument("--json", action="store_true", help="As JSON.")
        added = action("prune", "Forgets messages that were handled long ago. Asks before.")
        added.add_argument(
            "--older-than",
            type=duration,
            metavar="T",
            required=True,
            help="Handled longer ago: 12h, 7d. Longer than any copy of a message may take to arrive.",
        )
        added.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        self.options = options
        self.pruned = 0
        try:
            self.using = database_of(HandledMessage, options["database"])
            refuse_unready(self.using)
            getattr(self, f"_{options['action']}")()
        except KeyboardInterrupt:
            done = f" {_messages(self.pruned)} forgotten." if options["action"] == "prune" else ""
            raise CommandError(f"Interrupted.{done}", returncode=INTERRUPTED) from None
        except InboxNotReady as error:
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
        text = f"{_messages(found['messages'])} recorded"
        oldest, newest = found["oldest_age_seconds"], found["newest_age_seconds"]
        if oldest is not None and newest is not None:
            text += f", the oldest handled {spoken(oldest)} ago, the newest {spoken(newest)} ago"
        self.stdout.write(text)

    def _prune(self) -> None:
        seconds = self.options["older_than"]
        moment = moment_ago(self.using, seconds)
        if not self.options["yes"] and (count := count_before(self.using, moment)):
            question = f"Forget {_messages(count)} handled more than {spoken(seconds)} ago?"
            ask(self.stdout, question, "Nothing was forgotten.")
        for count in prune(self.using, moment):
            self.pruned += count
        if self.options["verbosity"]:
            self.stdout.write(f"{_messages(self.pruned)} forgotten")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"
