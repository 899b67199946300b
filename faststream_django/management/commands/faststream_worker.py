"""``manage.py faststream_worker``: consume until SIGTERM or SIGINT."""

from __future__ import annotations

import gc
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from faststream_django.exceptions import BrokerRefused
from faststream_django.inbox.uses import refuse_unready_uses
from faststream_django.liveness import Liveness, LivenessFile
from faststream_django.management.consuming.arguments import WrongUsage, read_arguments, read_recycling
from faststream_django.management.consuming.relaying import make_relays, patience_with, relayed_pairs
from faststream_django.worker.consumer import Consumer
from faststream_django.worker.ending import end_at_once, end_by
from faststream_django.worker.processes import USAGE, Processes
from faststream_django.worker.reloading import watch_code
from faststream_django.worker.supervision import inherited_supervision
from faststream_django.worker.worker import Worker

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable

    from faststream_django.management.consuming.relaying import Pairs
    from faststream_django.outbox.relay.running import Relays
    from faststream_django.worker.choosing import Chosen
    from faststream_django.worker.supervision import Supervision

NOT_RUN = 1
ENDS = {
    1: "A process did not end as it should.",
    2: "A process cannot do what it is asked for.",
    3: "Handlers were cut off.",
}
"""What a supervisor says with each exit code."""


class Command(BaseCommand):
    """Run the FastStream subscribers of the installed apps."""

    help = (
        "Runs the FastStream subscribers of the installed apps (<app>/subscribers.py). On SIGTERM or CTRL-C "
        "it takes no more messages, lets handlers finish within SHUTDOWN_TIMEOUT, and gives back the rest; "
        "a second signal hurries. Exit codes: 0 stopped, 1 the broker refuses, 2 wrong usage, 3 handlers "
        "were cut off."
    )
    requires_system_checks = ("faststream_django",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        broker = "An alias in FASTSTREAM; may be repeated. Default: all that have subscribers."
        add("--broker", action="append", default=[], metavar="ALIAS", help=broker)
        queues = "Consume only these queues; may be repeated."
        add("--queues", action="append", default=[], metavar="Q,...", help=queues)
        excluded = "Consume all queues but these; may be repeated."
        add("--exclude-queues", action="append", default=[], metavar="Q,...", help=excluded)
        concurrency = "How many plain functions run at once in a process; default: WORKER['CONCURRENCY']."
        add("--concurrency", type=int, metavar="N", help=concurrency)
        processes = "Run N processes, and replace those that end."
        add("--processes", type=int, metavar="N", help=processes)
        prefetch = "How many messages a subscriber holds at most; default: WORKER['PREFETCH']."
        add("--prefetch", type=int, metavar="N", help=prefetch)
        timeout = "Seconds that handlers have to finish at the end; default: SHUTDOWN_TIMEOUT."
        add("--shutdown-timeout", type=float, metavar="S", help=timeout)
        liveness = "A file for probes: touched every second while alive, and it says whether it is ready."
        add("--liveness", type=Path, metavar="FILE", help=liveness)
        add("--reload", action="store_true", help="Start again when the code changes; for development.")
        relay = "Also send what is stored in the outbox, as faststream_relay does: one process for all."
        add("--relay", action="store_true", help=relay)
        messages = "End each process once it has handled so many messages."
        add("--max-messages", type=int, metavar="N", help=messages)
        memory = "End each process once it uses so much memory, in MB."
        add("--max-memory", type=int, metavar="MB", help=memory)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        self.options = options
        supervision = inherited_supervision()
        try:
            chosen = read_arguments(options)
            for each in chosen:
                refuse_unready_uses(each.routers, each.queues)
            if supervision is None and (options["processes"] is not None or options["reload"]):
                self._supervise(chosen)
            else:
                self._work(chosen, supervision)
        except (WrongUsage, ImproperlyConfigured) as error:
            raise CommandError(f"{str(error).removesuffix('.')}.", returncode=USAGE) from error
        except BrokerRefused as error:
            raise CommandError(str(error), returncode=NOT_RUN) from None
        if supervision is None:
            self._say("Stopped.")

    def _supervise(self, chosen: list[Chosen]) -> None:
        self._relayed_pairs()  # says what is wrong before a process is started
        processes = Processes(
            self.options["processes"] or 1,
            shutdown_timeout=_shutdown_timeout(chosen),
            liveness=self._liveness_file(),
            on_stopping=self._end_by,
        )
        if self.options["reload"]:
            watch_code(processes.retry)
        self._freeze()
        code = processes.run()
        if code:
            raise CommandError(ENDS[code], returncode=code)

    def _work(self, chosen: list[Chosen], supervision: Supervision | None) -> None:
        # Of several processes one relays: of several relays one would lead.
        pairs = self._relayed_pairs() if supervision is None or supervision.number == 1 else []
        liveness = self._liveness(pairs, supervision)
        relays = make_relays(pairs, liveness)
        worker = Worker(
            [_consumer(each) for each in chosen],
            shutdown_timeout=_shutdown_timeout(chosen),
            recycling=read_recycling(self.options),
            liveness=liveness,
            on_consuming=self._announce,
            on_stopping=partial(self._begin_to_stop, relays),
        )
        if supervision is not None:
            supervision.obey(worker.stop, worker.hurry)
        if self.options["reload"]:
            watch_code(lambda: worker.stop("the code has changed"))
        if relays is not None:
            relays.start()
            for using, alias in relays.pairs:
                self._say(f"Relaying from database {using!r} to broker {alias!r}")
        self._freeze()
        if not worker.run():
            end_at_once()
        if relays is not None and not relays.stop(max(0.0, worker.deadline - time.monotonic())):
            self.stderr.write("Not all relays ended in time; their leases run out by themselves.")

    def _relayed_pairs(self) -> Pairs:
        return relayed_pairs() if self.options["relay"] else []

    def _liveness(self, pairs: Pairs, supervision: Supervision | None) -> Liveness | None:
        if supervision is not None:
            tell = supervision.report if self.options["liveness"] else None
        else:
            file = self._liveness_file()
            tell = None if file is None else file.write
        return None if tell is None else Liveness(tell, patience_with(pairs), "starting")

    def _liveness_file(self) -> LivenessFile | None:
        path = self.options["liveness"]
        if path is None:
            return None
        file = LivenessFile(path)
        try:
            file.begin("starting")
        except OSError as error:
            raise WrongUsage(f"--liveness: {error}") from None
        return file

    def _begin_to_stop(self, relays: Relays | None, deadline: float) -> None:
        self._end_by(deadline)
        if relays is not None:
            relays.begin_stop()

    def _end_by(self, deadline: float) -> None:
        if self._is_alone:
            end_by(deadline)

    def _freeze(self) -> None:
        """Have the garbage collector leave alone what was loaded: at the exit it costs 0.3 s otherwise."""
        if self._is_alone:
            gc.freeze()

    @property
    def _is_alone(self) -> bool:
        """Whether the process ends with the command; a program that calls it goes on."""
        return getattr(self, "_called_from_command_line", False)

    def _announce(self, consumer: Consumer) -> None:
        self._say(f"Consuming from broker {consumer.settings.alias!r}: {', '.join(consumer.queues)}")

    def _say(self, text: str) -> None:
        if self.options["verbosity"]:
            self.stdout.write(text)
            self.stdout.flush()


def _consumer(chosen: Chosen) -> Consumer:
    return Consumer(chosen.settings, chosen.routers, wants=chosen.queues.__contains__)


def _shutdown_timeout(chosen: Iterable[Chosen]) -> float:
    return max(each.settings.shutdown_timeout for each in chosen)
