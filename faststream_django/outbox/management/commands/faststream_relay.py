"""``manage.py faststream_relay``: send what is stored in the outbox, until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from faststream_django.liveness import Liveness, LivenessFile
from faststream_django.outbox.relay.pairs import chosen_pairs
from faststream_django.outbox.relay.running import Relays, relay_patience

if TYPE_CHECKING:
    from argparse import ArgumentParser

NOT_SENT, USAGE = 1, 2
MOST = 5000
"""The most messages of a batch, as in the setting."""


class Command(BaseCommand):
    """Relay what is stored in the outbox."""

    help = (
        "Sends what is stored in the outbox. Several may run: of those for a database and a broker one "
        "sends, and another takes over when it ends. Stops on SIGTERM or CTRL-C within SHUTDOWN_TIMEOUT "
        "seconds. Exit codes: 0 stopped, or with --once all sent that was due; 1 with --once not all sent; "
        "2 wrong usage."
    )
    requires_system_checks = ("faststream_django",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        database = "A database whose messages are sent; may be repeated. Default: all with the tables."
        add("--database", action="append", default=[], metavar="A", help=database)
        broker = "An alias in FASTSTREAM; may be repeated. Default: all with an outbox."
        add("--broker", action="append", default=[], metavar="A", help=broker)
        add("--once", action="store_true", help="Send what is due now, then end.")
        add("--batch-size", type=int, metavar="N", help="Messages at a time; default: OUTBOX['BATCH'].")
        add("--liveness", type=Path, metavar="FILE", help="Touch FILE at least every LEASE/3 while healthy.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        self.options = options
        relays = self._relays()
        if options["once"]:
            self._run_once(relays)
            return
        with _signals(relays):
            relays.start()
            for using, alias in relays.pairs:
                self._say(f"Relaying from database {using!r} to broker {alias!r}")
            relays.ended.get()
        # Without our signal handlers from here on: a second signal ends the process at once.
        self._stop(relays)
        self._say("Stopped.")

    def _relays(self) -> Relays:
        size, path = self.options["batch_size"], self.options["liveness"]
        if size is not None and not 1 <= size <= MOST:
            raise CommandError(f"--batch-size must be 1 to {MOST}, not {size}.", returncode=USAGE)
        liveness = None
        try:
            pairs = chosen_pairs(self.options["database"], self.options["broker"])
            if path is not None:
                file = LivenessFile(path)
                file.begin("ready")
                liveness = Liveness(file.write, relay_patience(pairs))
        except OSError as error:
            raise CommandError(f"--liveness: {error}", returncode=USAGE) from None
        except ImproperlyConfigured as error:
            raise CommandError(f"{str(error).removesuffix('.')}.", returncode=USAGE) from None
        return Relays(pairs, batch_size=size, liveness=liveness, once=self.options["once"])

    def _run_once(self, relays: Relays) -> None:
        problems: list[str] = []
        with _signals(relays):
            relays.start()
            for _ in relays.pairs:
                ended = relays.ended.get()
                if ended is None:
                    problems.append("Interrupted.")
                    break
                using, alias, problem = ended
                if problem:
                    problems.append(f"Database {using!r}, broker {alias!r}: {problem}")
        self._stop(relays)
        if problems:
            raise CommandError("Not everything was sent. " + " ".join(problems), returncode=NOT_SENT)
        self._say("Sent what was due.")

    def _stop(self, relays: Relays) -> None:
        if not relays.stop():
            self.stderr.write("Not all relays ended in time; their leases run out by themselves.")

    def _say(self, text: str) -> None:
        if self.options["verbosity"]:
            self.stdout.write(text)
            self.stdout.flush()


@contextmanager
def _signals(relays: Relays) -> Iterator[None]:
    """Have SIGTERM and SIGINT told to whoever waits; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {
        number: signal.signal(number, lambda *_: relays.ended.put(None))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
