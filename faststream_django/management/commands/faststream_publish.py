"""``manage.py faststream_publish``: publish a body, a file, or one message a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from faststream_django.conf.entries import MEMORY_BACKEND, broker_settings
from faststream_django.exceptions import BrokerDoesNotExist, BulkPublishError, InvalidBroker, PublishError
from faststream_django.management.publishing.arguments import read_arguments
from faststream_django.management.publishing.bodies import WrongUsage, opened, read_body, read_lines
from faststream_django.management.publishing.output import PatientOutput
from faststream_django.management.publishing.progress import Progress, as_options
from faststream_django.messages.message import Message
from faststream_django.publishing.verbs import publish, publish_many

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from django.core.management.base import CommandParser

NOT_SENT, USAGE, UNKNOWN, INTERRUPTED = 1, 2, 3, 130


class Command(BaseCommand):
    """Publish from a shell, with what the broker confirmed as the exit code."""

    help = (
        "Publishes one message, or one for each line (--lines), and returns once the broker has confirmed "
        "it. Exit codes: 0 confirmed, 1 not sent, 2 wrong usage, 3 outcome unknown, 130 interrupted."
    )
    requires_system_checks = ("faststream_django",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stdout, self.stderr = PatientOutput.around(self.stdout), PatientOutput.around(self.stderr)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        # Otherwise argparse refuses BODY behind an option: QUEUE --header a=b BODY.
        parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.usage = (
            "%(prog)s QUEUE [BODY | -] [options]\n"
            "       %(prog)s --exchange E --routing-key K [BODY | -] [options]"
        )
        add = parser.add_argument
        add("queue", nargs="?", metavar="QUEUE", help="The queue, or with --exchange the routing key.")
        body = "The body: JSON, else plain text. '-' or left out: read standard input."
        add("body", nargs="?", metavar="BODY", help=body)
        add("--file", metavar="F", help="Read the body (with --lines: the messages) from this file.")
        add("--lines", action="store_true", help="Publish one message for each line of JSON (NDJSON).")
        add("--exchange", metavar="E", help="Publish to this exchange.")
        add("--routing-key", metavar="K", help="The routing key; with it QUEUE is left out.")
        header = "A header; NAME:=JSON sets a value that is not text. May be repeated."
        add("--header", action="append", default=[], metavar="NAME=VALUE", help=header)
        add("--broker", default="default", metavar="ALIAS", help="The alias of the broker in FASTSTREAM.")
        add("--content-type", metavar="T", help="The content type; by default it follows from the body.")
        timeout = "Seconds to wait for the whole publish; with --lines, the longest time without progress."
        add("--timeout", type=float, metavar="S", help=timeout)
        add("--message-id", metavar="ID", help="The id of the message; by default a new UUID.")
        add("--priority", type=int, metavar="N", help="The priority, 0 to 255.")
        expiration = "Seconds after which the broker may drop the message."
        add("--expiration", type=float, metavar="S", help=expiration)
        no_mandatory = "Do not fail if no queue takes the message."
        add("--no-mandatory", action="store_true", help=no_mandatory)
        add("--dry-run", action="store_true", help="Check everything and print what would be published.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        self.options = options
        self.progress = Progress(self.stderr)
        try:
            self._publish()
        except KeyboardInterrupt:
            raise CommandError(self.progress.interruption, returncode=INTERRUPTED) from None
        except (WrongUsage, BrokerDoesNotExist) as error:
            raise CommandError(str(error), returncode=USAGE) from None
        except (InvalidBroker, PublishError) as error:
            # Without its cause: what a driver raised may hold a URL, which --traceback would show.
            code = UNKNOWN if getattr(error, "maybe_sent", False) else NOT_SENT
            raise CommandError(as_options(str(error)), returncode=code) from None

    def _publish(self) -> None:
        seal, body = read_arguments(self.options)
        settings = broker_settings(self.options["broker"])
        limit, file = settings.max_message_bytes, self.options["file"]
        if settings.backend == MEMORY_BACKEND and self.options["verbosity"] and not self.options["dry_run"]:
            self.stderr.write(
                f"Broker {settings.alias!r} is the embedded one (memory://): its queues end with this "
                "process, and no other process sees the message.",
                self.style.WARNING,
            )
        if self.options["lines"]:
            with opened(file, body) as stream:
                self._publish_lines(stream, limit, seal)
        else:
            content = read_body(body, file, limit, self.options["content_type"])
            self._publish_one(seal(content))

    def _publish_one(self, message: Message) -> None:
        if self.options["dry_run"]:
            names = ", ".join(map(repr, message.headers))
            self._say(
                f"would publish 1 message to {message.destination} of broker {self.options['broker']!r} "
                f"({message.content_type}, {len(message.body):,} bytes, "
                f"{f'headers {names}' if names else 'no headers'})"
            )
            return
        started = time.perf_counter()
        self.progress.under_way[message.message_id] = 1
        publish(message, broker=self.options["broker"], timeout=self.options["timeout"])
        took = (time.perf_counter() - started) * 1000
        self._say(f"confirmed 1 message to {message.destination} (id {message.message_id}, {took:.0f} ms)")

    def _publish_lines(self, stream: IO[bytes], limit: int, seal: Callable[..., Message]) -> None:
        progress, destination = self.progress, seal(b"").destination
        messages = self._messages(stream, limit, seal)
        if self.options["dry_run"]:
            for message in messages:
                progress.confirm(message)
            self._say(f"would publish {progress.count} to {destination}")
        else:
            started = time.perf_counter()
            drawn = stream if self.options["verbosity"] and self.stderr.isatty() else None
            try:
                # Of a BulkPublishError the progress has every line already.
                with suppress(BulkPublishError), progress.following(drawn):
                    publish_many(messages, broker=self.options["broker"], timeout=self.options["timeout"])
            except OSError as error:
                raise PublishError(f"Reading failed after {progress.count}: {error.strerror}.") from None
            took = time.perf_counter() - started
            self._say(f"confirmed {progress.count} to {destination} ({took:.1f} s, {progress.rate})")
        if progress.problem:
            raise PublishError(progress.problem, maybe_sent=progress.maybe_sent)

    def _messages(self, stream: IO[bytes], limit: int, seal: Callable[..., Message]) -> Iterator[Message]:
        """Yield the messages of the lines; report those that are wrong and leave them out."""
        for number, body, problem in read_lines(stream, limit, self.options["content_type"]):
            if problem:
                self.progress.refuse(number, problem)
                continue
            message = seal(body, "application/json")
            self.progress.under_way[message.message_id] = number
            yield message

    def _say(self, text: str) -> None:
        if self.options["verbosity"]:
            self.stdout.write(text)
