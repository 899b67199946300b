"""How far a publish has come: counted for what the command says, drawn for who waits at a terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from faststream_django.exceptions import PublishError
from faststream_django.messages.message import Message
from faststream_django.signals import message_failed, message_published

if TYPE_CHECKING:
    from django.core.management.base import OutputWrapper

__all__ = ["Progress", "as_options"]

REFRESH = 0.1  # seconds between two drawings
BAR = 20  # characters
SHOWN = 3  # errors of one kind, before the rest is summed up: an outage fails every line alike


class Progress:
    """Counts what came of the messages, as the signals tell in this thread, and draws it on a terminal."""

    def __init__(self, terminal: OutputWrapper) -> None:
        self.confirmed = 0
        self.failed = 0
        self.maybe_sent = False
        self.under_way: dict[str, int] = {}
        """By its id, the line of each message that was handed over and is not settled yet."""
        self._alike: dict[str, list[int]] = {}
        """The lines that failed with each kind of error."""
        self._terminal = terminal
        self._input: IO[bytes] | None = None
        self._width = 0

    @contextmanager
    def following(self, drawn: IO[bytes] | None) -> Iterator[None]:
        """Count what comes of the messages that are under way; draw it if their input is given."""
        self._input = drawn
        self._started = self._shown = time.perf_counter()
        message_published.connect(self.confirm, sender=Message)
        message_failed.connect(self._fail, sender=Message)
        try:
            yield
        finally:
            message_published.disconnect(self.confirm, sender=Message)
            message_failed.disconnect(self._fail, sender=Message)
            self._clear()
            self._sum_up()

    def confirm(self, message: Message, **kwargs: Any) -> None:  # noqa: ARG002
        if self.under_way.pop(message.message_id, None):
            self.confirmed += 1
            self._show()

    def refuse(self, line: int, problem: str) -> None:
        self.failed += 1
        self._clear()
        self._terminal.write(f"line {line:,}: {problem}")

    @property
    def count(self) -> str:
        """How many messages were confirmed, in words."""
        return "1 message" if self.confirmed == 1 else f"{self.confirmed:,} messages"

    @property
    def rate(self) -> str:
        return f"{self.confirmed / (time.perf_counter() - self._started):,.0f}/s"

    @property
    def problem(self) -> str | None:
        """What is wrong once the end is reached."""
        if self.under_way:
            first = min(self.under_way.values())
            return f"Publishing stopped: nothing from line {first:,} on was sent."
        if self.failed:
            return f"{self.failed:,} of the lines failed, see above; correct them and publish them again."
        return None

    @property
    def interruption(self) -> str:
        """What is known when the end is not reached."""
        were = "was" if self.confirmed == 1 else "were"
        more = f" Up to {len(self.under_way):,} more may have been sent." if self.under_way else ""
        return f"Interrupted: {self.count} {were} confirmed.{more}"

    def _fail(self, message: Message, error: PublishError, **kwargs: Any) -> None:  # noqa: ARG002
        if line := self.under_way.pop(message.message_id, None):
            self.maybe_sent |= error.maybe_sent
            alike = self._alike.setdefault(type(error).__name__, [])
            alike.append(line)
            if len(alike) <= SHOWN:
                self.refuse(line, as_options(str(error)))
            else:
                self.failed += 1

    def _sum_up(self) -> None:
        for kind, lines in self._alike.items():
            if more := lines[SHOWN:]:
                self._terminal.write(f"{_ranges(more)}: {kind} as above ({len(more):,} more)")

    def _show(self) -> None:
        now = time.perf_counter()
        if self._input is None or now - self._shown < REFRESH:
            return
        self._shown = now
        text = f"{self.confirmed:,} confirmed, {self.rate}"
        if size := _size(self._input):
            part = min(self._input.tell() / size, 1.0)
            text = f"[{'#' * round(part * BAR):<{BAR}}] {part:4.0%}  {text}"
        self._draw(f"\r{text:<{self._width}}")
        self._width = len(text)

    def _clear(self) -> None:
        if self._width:
            self._draw(f"\r{'':<{self._width}}\r")
            self._width = 0

    def _draw(self, text: str) -> None:
        self._terminal.write(text, str, ending="")
        self._terminal.flush()


def as_options(text: str) -> str:
    """Name the options of the command where a text of the library names arguments of publish()."""
    return text.replace("mandatory=False", "--no-mandatory")


def _ranges(numbers: list[int]) -> str:
    """Return "line 4", or "lines 4-512, 600" of numbers that ascend."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ", ".join(f"{low:,}" if low == high else f"{low:,}-{high:,}" for low, high in spans)
    return f"line {text}" if len(numbers) == 1 else f"lines {text}"


def _size(stream: IO[bytes]) -> int:
    """Return the size of a file in bytes, 0 if it is a pipe or a terminal."""
    try:
        return os.fstat(stream.fileno()).st_size if stream.seekable() else 0
    except OSError:
        return 0
