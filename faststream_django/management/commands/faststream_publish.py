"""``manage.py faststream_publish``: publish a body, a file, or one message a line."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

from faststream_django.conf import MEMORY_BACKEND, BrokerSettings, broker_settings
from faststream_django.exceptions import (
    BrokerDoesNotExist,
    BulkPublishError,
    InvalidBroker,
    InvalidMessage,
    PublishError,
)
from faststream_django.messages import Message
from faststream_django.publishing import publish, publish_many
from faststream_django.signals import message_failed, message_published

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from django.core.management.base import CommandParser, OutputWrapper

NOT_SENT, USAGE, UNKNOWN, INTERRUPTED = 1, 2, 3, 130

YEAR = 31_536_000  # seconds
REFRESH = 0.1  # seconds between two drawings of the progress bar
BAR = 20  # characters


class Command(BaseCommand):
    """Publish from a shell, with what the broker confirmed as the exit code."""

    help = (
        "Publishes one message, or one for each line (--lines), and returns once the broker has confirmed "
        "it. Exit codes: 0 confirmed, 1 not sent, 2 wrong usage, 3 outcome unknown, 130 interrupted."
    )
    requires_system_checks = ("faststream_django",)

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
        add(
            "body",
            nargs="?",
            metavar="BODY",
            help="The body: JSON, else plain text. '-' or left out: read standard input.",
        )
        add("--file", metavar="F", help="Read the body (with --lines: the messages) from this file.")
        add("--lines", action="store_true", help="Publish one message for each line of JSON (NDJSON).")
        add("--exchange", metavar="E", help="Publish to this exchange.")
        add("--routing-key", metavar="K", help="The routing key; with it QUEUE is left out.")
        add(
            "--header",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="A header; NAME:=JSON gives it another type than text. May be given several times.",
        )
        add("--broker", default="default", metavar="ALIAS", help="The alias in FASTSTREAM of the broker.")
        add("--content-type", metavar="T", help="The content type; by default the body tells it.")
        add(
            "--timeout",
            type=float,
            metavar="S",
            help="Seconds to wait; with --lines the longest time without progress.",
        )
        add("--dry-run", action="store_true", help="Check everything and say what would be published.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        self.tally = Tally()
        try:
            self._handle(options)
        except KeyboardInterrupt:
            raise CommandError(self.tally.interrupted(), returncode=INTERRUPTED) from None
        except InvalidBroker as error:
            code = USAGE if isinstance(error, BrokerDoesNotExist) else NOT_SENT
            raise CommandError(str(error), returncode=code) from None
        except PublishError as error:
            # Without its cause: what a driver raised may hold a URL, which --traceback would show.
            raise CommandError(str(error), returncode=UNKNOWN if error.maybe_sent else NOT_SENT) from None

    def _handle(self, options: dict[str, Any]) -> None:
        envelope, body = _read_arguments(options)
        if envelope.settings.backend == MEMORY_BACKEND and options["verbosity"] and not options["dry_run"]:
            self.stderr.write(
                f"Broker {envelope.settings.alias!r} is the embedded one (memory://): its queues end with "
                "this process, and no other process sees the message.",
                self.style.WARNING,
            )
        if body not in {None, "-"}:
            self._publish_one(envelope, body.encode(errors="surrogateescape"), options)
            return
        with _opened(options["file"], is_asked_for=body == "-") as stream:
            if options["lines"]:
                self._publish_lines(Lines(stream, envelope, self.tally, self._report), options)
                return
            content = _read_body(stream, envelope.settings.max_message_bytes)
        if not content and body is None and options["file"] is None:
            _refuse("There is no body: standard input is empty. Pass BODY, or - for an empty one.")
        self._publish_one(envelope, content, options)

    def _publish_one(self, envelope: Envelope, body: bytes, options: dict[str, Any]) -> None:
        if Path(options["file"] or "").suffix == ".json" and not envelope.content_type:
            _refuse_json(body)
        message = envelope.seal(body)
        if options["dry_run"]:
            self._say(
                f"would publish 1 message to {message.destination} of broker {envelope.settings.alias!r} "
                f"({message.content_type}, {len(message.body):,} bytes, {_headers_said(message)})",
                options,
            )
            return
        started = time.perf_counter()
        self.tally.under_way[message.message_id] = 1
        publish(message, broker=envelope.settings.alias, timeout=options["timeout"])
        duration = (time.perf_counter() - started) * 1000
        self._say(
            f"confirmed 1 message to {message.destination} (id {message.message_id}, {duration:.0f} ms)",
            options,
        )

    def _publish_lines(self, lines: Lines, options: dict[str, Any]) -> None:
        destination = lines.envelope.probe.destination
        if options["dry_run"]:
            for message in lines:
                self.tally.confirm(message)
            self._say(f"would publish {self.tally.said()} to {destination}", options)
        else:
            started = time.perf_counter()
            with self._progress(lines, options), self.tally.following(self._report):
                self._send(lines, options)
            took = time.perf_counter() - started
            speed = f"{took:.1f} s, {self.tally.confirmed / took:,.0f}/s"
            self._say(f"confirmed {self.tally.said()} to {destination} ({speed})", options)
        if problem := self.tally.problem():
            raise CommandError(problem, returncode=UNKNOWN if self.tally.maybe_sent else NOT_SENT)

    def _send(self, lines: Lines, options: dict[str, Any]) -> None:
        try:
            publish_many(lines, broker=lines.envelope.settings.alias, timeout=options["timeout"])
        except BulkPublishError:
            return  # the tally has every line of it
        except OSError as error:
            raise CommandError(
                f"Reading failed after {self.tally.said()}: {error.strerror}.", returncode=NOT_SENT
            ) from None

    def _report(self, line: int, problem: str) -> None:
        if self.tally.progress is not None:
            self.tally.progress.clear()
        self.stderr.write(f"line {line:,}: {problem}")

    @contextmanager
    def _progress(self, lines: Lines, options: dict[str, Any]) -> Iterator[None]:
        if not (options["verbosity"] and self.stderr.isatty()):
            yield
            return
        self.tally.progress = Progress(self.stderr, lines)
        try:
            yield
        finally:
            self.tally.progress.clear()
            self.tally.progress = None

    def _say(self, text: str, options: dict[str, Any]) -> None:
        if options["verbosity"]:
            self.stdout.write(text)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the arguments say about every message, whatever its body."""

    settings: BrokerSettings
    exchange: str
    routing_key: str
    headers: Mapping[str, Any]
    content_type: str | None

    @property
    def probe(self) -> Message:
        """A message without a body: what is wrong with the arguments is wrong with it."""
        return self.seal(b"")

    @property
    def is_json(self) -> bool:
        """Whether lines must be JSON; another --content-type means that they are something else."""
        kind = (self.content_type or "application/json").partition(";")[0].strip()
        return kind == "application/json" or kind.endswith("+json")

    def seal(self, body: bytes, content_type: str | None = None) -> Message:
        # Not by publish(): a codec of the settings would encode what is encoded already.
        return Message.encode(
            body,
            exchange=self.exchange,
            routing_key=self.routing_key,
            headers=self.headers,
            content_type=self.content_type or content_type or _content_type(body),
            broker=self.settings.alias,
            max_bytes=self.settings.max_message_bytes,
            id_generator=self.settings.options.get("id_generator"),
        )


@dataclass(slots=True)
class Tally:
    """What came of the messages so far; hears of it by the signals, in this thread."""

    confirmed: int = 0
    failed: int = 0
    maybe_sent: bool = False
    under_way: dict[str, int] = field(default_factory=dict)
    """The line of each message that was handed to publish_many() and not settled yet."""
    progress: Progress | None = None

    def confirm(self, message: Message) -> None:
        self.under_way.pop(message.message_id, None)
        self.confirmed += 1
        if self.progress is not None:
            self.progress.show(self.confirmed)

    @contextmanager
    def following(self, report: Any) -> Iterator[None]:
        """Count what comes of the messages that are under way."""

        def published(message: Message, **kwargs: Any) -> None:  # noqa: ARG001
            if message.message_id in self.under_way:
                self.confirm(message)

        def failed(message: Message, error: PublishError, **kwargs: Any) -> None:  # noqa: ARG001
            line = self.under_way.pop(message.message_id, None)
            if line is not None:
                self.failed += 1
                self.maybe_sent |= error.maybe_sent
                report(line, str(error))

        with ExitStack() as stack:
            for signal, receiver in ((message_published, published), (message_failed, failed)):
                signal.connect(receiver, sender=Message)
                stack.callback(signal.disconnect, receiver, sender=Message)
            yield

    def said(self) -> str:
        return _messages_said(self.confirmed)

    def interrupted(self) -> str:
        were = "was" if self.confirmed == 1 else "were"
        more = f" Up to {len(self.under_way):,} more may have been sent." if self.under_way else ""
        return f"Interrupted: {self.said()} {were} confirmed.{more}"

    def problem(self) -> str | None:
        if self.under_way:
            first = min(self.under_way.values())
            return f"Publishing stopped: nothing from line {first:,} on was sent."
        if self.failed:
            return f"{self.failed:,} of the lines failed, see above; correct them and publish them again."
        return None


class Lines:
    """The messages of NDJSON, one at a time; what is wrong is reported and left out."""

    def __init__(self, stream: IO[bytes], envelope: Envelope, tally: Tally, report: Any) -> None:
        self.envelope = envelope
        self.size = _size(stream)
        self.position = 0
        self._stream = stream
        self._tally = tally
        self._report = report

    def __iter__(self) -> Iterator[Message]:
        for number, body in self._bodies():
            problem = self._problem(body)
            if problem is not None:
                self._tally.failed += 1
                self._report(number, problem)
                continue
            message = self.envelope.seal(body, "application/json")
            self._tally.under_way[message.message_id] = number
            yield message

    def _bodies(self) -> Iterator[tuple[int, bytes]]:
        """Yield number and contents of the lines that are not empty, of a long one only its beginning."""
        number = 0
        limit = self.envelope.settings.max_message_bytes + 1
        while line := self._stream.readline(limit):
            number += 1
            self.position += len(line)
            body = line.rstrip(b"\r\n") if line.endswith(b"\n") else line
            if body.strip():
                yield number, body
            while len(line) == limit and not line.endswith(b"\n"):
                line = self._stream.readline(limit)
                self.position += len(line)

    def _problem(self, body: bytes) -> str | None:
        limit = self.envelope.settings.max_message_bytes
        if len(body) > limit:
            return f"it has more than the {limit:,} bytes that MAX_MESSAGE_BYTES allows; {_TOO_LONG}"
        return _json_problem(body) if self.envelope.is_json else None


class Progress:
    """Shows count and rate on a terminal, and a bar where the size of the input is known."""

    def __init__(self, terminal: OutputWrapper, lines: Lines) -> None:
        self._terminal = terminal
        self._lines = lines
        self._started = self._shown = time.monotonic()
        self._width = 0

    def show(self, confirmed: int) -> None:
        now = time.monotonic()
        if now - self._shown < REFRESH:
            return
        self._shown = now
        text = f"{self._bar()}{confirmed:,} confirmed, {confirmed / (now - self._started):,.0f}/s"
        self._write(f"\r{text:<{self._width}}")
        self._width = len(text)

    def clear(self) -> None:
        if self._width:
            self._write(f"\r{'':<{self._width}}\r")
            self._width = 0

    def _bar(self) -> str:
        if not self._lines.size:
            return ""
        part = min(self._lines.position / self._lines.size, 1.0)
        return f"[{'#' * round(part * BAR):<{BAR}}] {part:4.0%}  "

    def _write(self, text: str) -> None:
        self._terminal.write(text, str, ending="")
        self._terminal.flush()


def _read_arguments(options: Mapping[str, Any]) -> tuple[Envelope, str | None]:
    """Return what the arguments say, and BODY if it was given."""
    queue, body, exchange, key = (options[name] for name in ("queue", "body", "exchange", "routing_key"))
    if exchange and key is not None and body is None:
        queue, body = None, queue  # QUEUE would only be another routing key
    if not exchange and not queue:
        _refuse("Nothing says where to publish; pass QUEUE, or --exchange and --routing-key.")
    if queue is not None and key is not None and queue != key:
        _refuse(f"QUEUE is {queue!r} and --routing-key is {key!r}; leave one of them out.")
    if body is None and queue is not None and (queue == "-" or queue[:1] in {"{", "[", '"'}):
        # Never taken for a routing key, while the body is read from a standard input that is empty.
        _refuse(
            "The only argument looks like BODY; pass QUEUE before it, or --exchange together with "
            "--routing-key ('' for an exchange that needs none)."
        )
    if options["file"] is not None and body is not None:
        _refuse("BODY and --file are both given; leave one of them out.")
    if options["lines"] and body not in {None, "-"}:
        _refuse("--lines reads standard input or --file; leave BODY out.")
    if options["timeout"] is not None and not 0 < float(options["timeout"]) <= YEAR:
        _refuse(f"--timeout is {options['timeout']}; pass seconds above 0.")
    envelope = Envelope(
        settings=broker_settings(options["broker"]),
        exchange=exchange or "",
        routing_key=(key if queue is None else queue) or "",
        headers=_headers(options["header"]),
        content_type=options["content_type"],
    )
    _check(envelope)
    return envelope, body


def _check(envelope: Envelope) -> None:
    try:
        envelope.probe  # noqa: B018 - it raises
    except InvalidMessage as error:
        _refuse(str(error))


def _headers(arguments: list[str]) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    for number, argument in enumerate(arguments, 1):
        name, equals, value = argument.partition("=")
        place = f"--header number {number}"  # never its text: a header may be a credential
        if not equals or not name.rstrip(":"):
            _refuse(f"{place} is not NAME=VALUE (text) or NAME:=JSON (another type).")
        plain = name.removesuffix(":")
        if plain in headers:
            _refuse(f"{place} is given twice: {plain!r}.")
        headers[plain] = value
        if name != plain:
            if problem := _json_problem(value.encode(errors="surrogateescape")):
                _refuse(f"{place}, {plain!r}: {problem}")
            headers[plain] = json.loads(value)
    return headers


@contextmanager
def _opened(file: str | None, *, is_asked_for: bool) -> Iterator[IO[bytes]]:
    if file is None:
        yield _standard_input(is_asked_for=is_asked_for)
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        _refuse(f"--file {file!r} cannot be read: {error.strerror}.")
    with stream:
        yield stream


def _standard_input(*, is_asked_for: bool) -> IO[bytes]:
    if sys.stdin is None or (sys.stdin.isatty() and not is_asked_for):
        _refuse("There is no body: pass BODY, --file, or - to type it here (end with CTRL-D).")
    return sys.stdin.buffer


def _read_body(stream: IO[bytes], limit: int) -> bytes:
    try:
        body = stream.read(limit + 1)
    except OSError as error:
        _refuse(f"The body cannot be read: {error.strerror}.")
    if len(body) > limit:
        raise CommandError(
            f"The body has more than the {limit:,} bytes that MAX_MESSAGE_BYTES allows; {_TOO_LONG}.",
            returncode=NOT_SENT,
        )
    return body


def _refuse_json(body: bytes) -> None:
    if problem := _json_problem(body):
        raise CommandError(
            f"The file is named .json, but {problem}. To send it as it is, pass --content-type.",
            returncode=NOT_SENT,
        )


def _content_type(body: bytes) -> str:
    if _json_problem(body) is None:
        return "application/json"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def _json_problem(body: bytes) -> str | None:
    """Say why this is not JSON and what to do, without quoting it."""
    try:
        # Numbers stay text, because Python limits the digits that it converts.
        json.loads(body.decode(), parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1:,} is not UTF-8; save the input as UTF-8"
    except json.JSONDecodeError as error:
        if body.startswith(b"\xef\xbb\xbf"):
            return "it begins with a byte order mark; save the input as UTF-8 without one"
        place = f"line {error.lineno:,}, column" if error.lineno > 1 else "column"
        return f"it is not JSON at {place} {error.colno:,} ({error.msg}); correct it"
    except ValueError as error:
        return str(error)
    except RecursionError:
        return "it is nested too deeply for JSON; flatten it"
    return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; use null or a text")


def _size(stream: IO[bytes]) -> int:
    """Return the size of a file in bytes, 0 if it is a pipe or a terminal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _messages_said(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"


def _headers_said(message: Message) -> str:
    names = ", ".join(map(repr, message.headers))
    return f"headers {names}" if names else "no headers"


def _refuse(text: str) -> NoReturn:
    raise CommandError(text, returncode=USAGE)


_TOO_LONG = "store the data elsewhere and send a reference to it, or raise MAX_MESSAGE_BYTES"
