"""A value in the settings and its place: read, or refused with a letter that names the place."""

from __future__ import annotations

import copy
import datetime as dt
import inspect
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, NoReturn

from faststream_django.exceptions import InvalidBroker

__all__ = ["YEAR", "Reader", "Setting", "did_you_mean", "nearest", "shown"]

# A wait longer than the operating system can count would fail after the message was handed over.
YEAR = 31_536_000

_TABLE_VALUES = (str, bytes, bool, int, float, Decimal, dt.datetime, type(None))


@dataclass(frozen=True, slots=True)
class Setting:
    """A value in the settings and its place."""

    place: str
    value: Any = field(repr=False)

    def refuse(self, why: str) -> NoReturn:
        raise InvalidBroker(f"{self.place}: {why}")

    def __getitem__(self, key: Any) -> Setting:
        return Setting(f"{self.place}[{shown(key)}]", self.value[key])

    def read(self, readers: Mapping[str, tuple[str, Reader]]) -> dict[str, Any]:
        """Read a dict with known keys into the fields of a dataclass."""
        for key in self.mapping():
            if key not in readers:
                self.refuse(f"unknown key {shown(key)}{did_you_mean(key, readers, listed=True)}")
        return {name: read(self[key]) for key, (name, read) in readers.items() if key in self.value}

    def mapping(self) -> Mapping[Any, Any]:
        if not isinstance(self.value, Mapping):
            self.refuse(f"must be a dict, not {_kind(self.value)}")
        return self.value

    def items(self) -> list[Setting]:
        """Return the items of a list that is not empty, or the value itself if it stands alone."""
        if not isinstance(self.value, (list, tuple)):
            return [self]
        if not self.value:
            self.refuse("must not be empty")
        return [self[index] for index in range(len(self.value))]

    def text(self) -> str:
        if not isinstance(self.value, str):
            self.refuse(f"must be a str, not {_kind(self.value)}")
        if not self.value.isprintable() or len(self.value.encode()) > 255:
            self.refuse("must have no control characters and at most 255 bytes as UTF-8")
        return self.value

    def name(self) -> str:
        if self.value == "":
            self.refuse("a name must not be empty")
        return self.text()

    def function(self) -> Any:
        """Read what is called without arguments, in a thread."""
        if inspect.iscoroutinefunction(self.value) or isinstance(self.value, type):
            self.refuse("must be a plain function without arguments, which may block")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            self.refuse(f"must be True or False, not {shown(self.value)}")
        return self.value

    def seconds(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            self.refuse(f"must be a number of seconds, not {shown(self.value)}")
        if not 0 < self.value <= YEAR:  # NaN is not, either
            self.refuse(f"must be above 0 seconds and at most a year, not {shown(self.value)}")
        return float(self.value)

    def backoff(self) -> tuple[float, float]:
        """Read the first wait and the longest one, in seconds."""
        if not isinstance(self.value, (list, tuple)) or len(self.value) != 2:
            self.refuse("must be two numbers of seconds: the first wait and the longest one")
        first, longest = (self[index].seconds() for index in range(2))
        if first > longest:
            self.refuse("the first wait must not be longer than the longest one")
        return first, longest

    def whole(self, high: int) -> int:
        number = self.value
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= high:
            self.refuse(f"must be a whole number from 1 to {high:_}, not {shown(number)}")
        return number

    def choice(self, known: Iterable[Any]) -> Any:
        choices = tuple(known)
        # 1 is not True here.
        if not any(type(self.value) is type(each) and self.value == each for each in choices):
            self.refuse(
                f"must be {' or '.join(map(repr, choices))}, not {shown(self.value)}"
                f"{did_you_mean(self.value, choices)}"
            )
        return self.value

    def dotted_path(self) -> str:
        parts = self.text().split(".")
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            self.refuse(f"must be a dotted path like 'module.Name', not {shown(self.value)}")
        return self.text()

    def table(self) -> dict[str, Any]:
        """Read AMQP arguments: a dict of names and what AMQP can carry."""
        for key in self.mapping():
            Setting(self.place, key).name()
            self[key].table_value()
        return copy.deepcopy(dict(self.value))

    def table_value(self) -> None:
        if isinstance(self.value, Mapping):
            self.table()
        elif isinstance(self.value, list):
            for index in range(len(self.value)):
                self[index].table_value()
        elif not isinstance(self.value, _TABLE_VALUES):
            self.refuse(f"AMQP arguments cannot hold {_kind(self.value)}")
        elif isinstance(self.value, int) and not -(2**63) <= self.value < 2**63:
            self.refuse("AMQP arguments cannot hold a number of more than 64 bits")
        elif isinstance(self.value, float) and not _is_single(self.value):
            self.refuse("the driver sends floats in arguments in single precision, which changes this one")


def _is_single(value: float) -> bool:
    try:
        return struct.unpack("f", struct.pack("f", value)) == (value,)
    except OverflowError:
        return False


Reader = Callable[[Setting], Any]


def did_you_mean(word: Any, known: Iterable[Any], *, listed: bool = False) -> str:
    """Suggest the nearest known word, or list the known ones where none is near."""
    words = [each for each in known if isinstance(each, str)]
    hint = nearest(word, words)
    if hint is not None:
        return f" (did you mean {hint!r}?)"
    return f" (known are {', '.join(map(repr, words))})" if listed else ""


def nearest(word: Any, known: Iterable[Any]) -> str | None:
    """Return the known word that may have been meant, if there is one."""
    words = {each.lower(): each for each in known if isinstance(each, str)}
    near = get_close_matches(word.lower(), words, n=1) if isinstance(word, str) else []
    return words[near[0]] if near else None


def shown(value: Any) -> str:
    """Show a value in an error: short, and never what could be a URL with a password."""
    if isinstance(value, str):
        if "@" in value or "://" in value:
            return "'***'"
        return repr(value if len(value) <= 80 else f"{value[:77]}...")
    return repr(value) if isinstance(value, (bool, int, float, type(None))) else _kind(value)


def _kind(value: Any) -> str:
    name = "str" if isinstance(value, str) else type(value).__name__  # a PrivateURL is a text of the site's
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
