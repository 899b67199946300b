"""``manage.py faststream_deadletters``: see what no handler took, replay it, or discard it."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from faststream_django.backends.operating import OperationRefused
from faststream_django.conf.entries import BrokerSettings, broker_settings
from faststream_django.dead_letters import operating
from faststream_django.dead_letters.discarding import Discard
from faststream_django.dead_letters.interrupting import signals_stop
from faststream_django.dead_letters.queues import declared_queues, known_queues, source_queue
from faststream_django.dead_letters.replaying import Replay
from faststream_django.dead_letters.showing import (
    HEADINGS,
    as_cells,
    as_json,
    in_full,
    outcome_as_json,
    report,
)
from faststream_django.exceptions import BrokerUnavailable, InvalidBroker
from faststream_django.management.asking import INTERRUPTED, NOT_DONE, USAGE, ask, duration
from faststream_django.management.publishing.output import PatientOutput
from faststream_django.outbox.durations import spoken
from faststream_django.outbox.printing import as_table, printable

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from faststream_django.dead_letters.sweeping import Outcome, Sweep

SHOWN = 20
"""The most dead letters that are listed unless more are asked for."""


class Command(BaseCommand):
    """See, replay and discard dead letters."""

    help = (
        "Shows the messages that no handler took, and replays or deletes them. "
        "Exit codes: 0 done, 1 not done or not all of it, 2 wrong usage, 130 interrupted."
    )
    requires_system_checks = ("faststream_django",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stdout, self.stderr = PatientOutput.around(self.stdout), PatientOutput.around(self.stderr)
        self._job: Sweep | None = None
        self._is_stopping = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

        def action(name: str, text: str, *, json_help: str) -> ArgumentParser:
            added: ArgumentParser = actions.add_parser(name, help=text, description=text)
            added.add_argument(
                "--broker", default="default", metavar="ALIAS", help="The alias in FASTSTREAM."
            )
            added.add_argument("--queue", metavar="Q", help="Only what was consumed from this queue.")
            added.add_argument("--json", action="store_true", help=json_help)
            return added

        line = "A JSON object a line."
        added = action(
            "list", "Counts dead letters; with --queue lists them, the oldest first.", json_help=line
        )
        added.add_argument("--limit", type=_number, default=SHOWN, metavar="N", help="At most so many (20).")
        added = action(
            "show", "Shows one dead letter: why it is dead, and its headers.", json_help="As JSON."
        )
        added.add_argument("id", metavar="ID", help="The id of the message.")
        added.add_argument("--body", action="store_true", help="Show the body as well.")
        added = action("replay", "Has dead letters handled again as if for the first time.", json_help=line)
        added.add_argument("ids", nargs="*", metavar="ID", help="Only these; otherwise all that are there.")
        added.add_argument("--limit", type=_number, metavar="N", help="At most so many of a queue.")
        added.add_argument("--to", metavar="Q", help="To this queue, not the one that each comes from.")
        added = action("discard", "Deletes dead letters for good. Asks before.", json_help=line)
        added.add_argument("ids", nargs="*", metavar="ID", help="The ids of messages.")
        added.add_argument("--all", action="store_true", help="All of --queue.")
        added.add_argument(
            "--older-than", type=duration, metavar="T", help="Of --queue what died earlier: 12h, 7d."
        )
        added.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        self.options = options
        try:
            self.settings = self._settings()
            getattr(self, f"_{options['action']}")()
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None
        except BrokerUnavailable as error:
            # Without its cause: what a driver raised may hold a URL, which --traceback would show.
            raise CommandError(f"Broker {options['broker']!r}: {error}", returncode=NOT_DONE) from None
        except OperationRefused as error:
            raise CommandError(f"Broker {options['broker']!r}: {error}", returncode=NOT_DONE) from None

    def _list(self) -> None:
        queue = self.options["queue"]
        if queue is not None:
            shelf = operating.peek(self.settings, source_queue(queue), self.options["limit"])
            self._write(map(as_json, shelf.letters), map(as_cells, shelf.letters), HEADINGS)
            if (more := shelf.count - len(shelf.letters)) > 0 and not self.options["json"]:
                self._say(f"... and {more:,} more behind them")
            return
        counts = operating.counts(self.settings, self._queues()).items()
        self._write(
            ({"queue": name, "count": count} for name, count in counts),
            ((printable(name), f"{count:,}") for name, count in counts),
            ("QUEUE", "DEAD LETTERS"),
        )

    def _show(self) -> None:
        letter = operating.find(self.settings, self._queues(), self.options["id"])
        if letter is None:
            raise CommandError(
                f"{printable(self.options['id'])} is not among the dead letters.", returncode=NOT_DONE
            )
        shown = in_full(letter, self.settings.outbox.redact, with_body=self.options["body"])
        if self.options["json"]:
            self.stdout.write(json.dumps(shown))
            return
        for name, value in shown.items():
            text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
            text = "\n".join(map(printable, text.splitlines()))
            self.stdout.write(f"{name}: {text}")

    def _replay(self) -> None:
        to = self.options["to"]
        self._sweep_all(
            partial(
                Replay,
                self.settings,
                declared=declared_queues(self.settings),
                to=to,
                limit=self.options["limit"],
            ),
            "Replayed",
            self._queues(),
        )

    def _discard(self) -> None:
        queue, ids, older_than = (self.options[name] for name in ("queue", "ids", "older_than"))
        ways = [bool(ids), self.options["all"], older_than is not None]
        if sum(ways) != 1:
            raise CommandError(
                "Name the messages, or pass --queue with --all or with --older-than; one of these.",
                returncode=USAGE,
            )
        if queue is None and not ids:
            raise CommandError("--all and --older-than need --queue.", returncode=USAGE)
        queues = self._queues()
        if not self.options["yes"]:
            ask(self.stdout, self._question(queues))
        self._sweep_all(partial(Discard, self.settings, older_than=older_than), "Discarded", queues)

    def _question(self, queues: Sequence[str]) -> str:
        ids, older_than = self.options["ids"], self.options["older_than"]
        if ids:
            return f"Delete {', '.join(map(printable, ids))} for good?"
        count = operating.peek(self.settings, queues[0], 0).count
        if older_than is None:
            return f"Delete all {count:,} dead letters of {queues[0]!r} for good?"
        return (
            f"Delete for good those of the {count:,} dead letters of {queues[0]!r} that died more than "
            f"{spoken(older_than)} ago?"
        )

    def _sweep_all(self, make: Callable[..., Sweep], verb: str, queues: Iterable[str]) -> None:
        """Go through the queues, one after the other; of ids that are given, each is in one of them."""
        ids = set(self.options["ids"])
        if self.options["queue"] is None:
            counts = operating.counts(self.settings, queues)
            queues = [name for name, count in counts.items() if count]
        outcomes: list[Outcome] = []
        with signals_stop(self._stop, is_program=getattr(self, "_called_from_command_line", False)):
            for queue in queues:
                outcome = self._sweep(make(queue, ids=ids or None))
                ids &= set(outcome.missing)
                outcome.missing = []
                self._tell(outcome, verb)
                outcomes.append(outcome)
                if outcome.is_stopped or (self.options["ids"] and not ids):
                    break
        self._conclude(outcomes, ids)

    def _sweep(self, job: Sweep) -> Outcome:
        self._job = job
        if self._is_stopping:
            job.stop()
        try:
            return operating.sweep(job)
        finally:
            self._job = None

    def _stop(self) -> None:
        self._is_stopping = True
        if self._job is not None:  # and so nothing is being written
            self._job.stop()
            self.stderr.write("Finishing what is under way ...")

    def _tell(self, outcome: Outcome, verb: str) -> None:
        if self.options["json"]:
            self.stdout.write(json.dumps(outcome_as_json(outcome)))
            return
        result, *problems = report(outcome, verb)
        self._say(result)
        for problem in problems:
            self.stderr.write(problem)

    def _conclude(self, outcomes: Sequence[Outcome], missing: Iterable[str]) -> None:
        if any(each.is_stopped for each in outcomes):
            raise CommandError("Interrupted.", returncode=INTERRUPTED)
        problems = [f"{printable(name)} is not among the dead letters." for name in sorted(missing)]
        if not all(each.is_complete for each in outcomes):
            problems.append("Not everything was done.")
        if problems:
            raise CommandError("\n".join(problems), returncode=NOT_DONE)
        if not outcomes and not self.options["json"]:
            self._say("There are no dead letters.")

    def _queues(self) -> list[str]:
        if self.options["queue"] is not None:
            return [source_queue(self.options["queue"])]
        try:
            return known_queues(self.settings)
        except Exception as error:
            raise CommandError(
                f"The subscribers of the installed apps cannot be imported, so name the queue with --queue. "
                f"{type(error).__name__}: {error}",
                returncode=NOT_DONE,
            ) from error

    def _settings(self) -> BrokerSettings:
        alias = self.options["broker"]
        try:
            settings = broker_settings(alias)
        except InvalidBroker as error:
            raise CommandError(str(error), returncode=USAGE) from None
        if settings.is_embedded:
            raise CommandError(
                f"Broker {alias!r} is the embedded one (memory://): its dead letters are in the memory of "
                "the process that publishes. The admin of that process shows them.",
                returncode=USAGE,
            )
        return settings

    def _write(
        self, objects: Iterable[dict[str, Any]], rows: Iterable[Sequence[str]], headings: Sequence[str]
    ) -> None:
        lines = map(json.dumps, objects) if self.options["json"] else as_table(rows, headings)
        for line in lines:
            self.stdout.write(line)
            if not getattr(self.stdout, "has_reader", True):  # of a stream given to call_command(), True
                return

    def _say(self, text: str) -> None:
        if self.options["verbosity"]:
            self.stdout.write(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000):
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to 1,000,000")
    return int(text)
