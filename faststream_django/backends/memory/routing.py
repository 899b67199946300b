"""Which bindings of an exchange a message matches: RabbitMQ's rules, as pure functions."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["EXCHANGE_TYPES", "matches"]

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")


def matches(
    exchange_type: str,
    binding_key: str,
    arguments: Mapping[str, Any],
    routing_keys: Collection[str],
    headers: Mapping[str, Any],
) -> bool:
    """Tell whether a binding of an exchange of this type takes the message, by any of its keys."""
    if exchange_type == "fanout":
        return True
    if exchange_type == "topic":
        return any(matches_topic(binding_key, key) for key in routing_keys)
    if exchange_type == "headers":
        return matches_headers(arguments, headers)
    return binding_key in routing_keys


def matches_topic(pattern: str, routing_key: str) -> bool:
    """Match words between dots: ``*`` is exactly one word, ``#`` any number of them, also none."""
    wanted = _words(pattern)
    states = _skip_hashes({0}, wanted)
    for word in _words(routing_key):
        reached = set()
        for state in states:
            if state == len(wanted):
                continue
            if wanted[state] == "#":
                reached.add(state)
            elif wanted[state] in {"*", word}:
                reached.add(state + 1)
        states = _skip_hashes(reached, wanted)
    return len(wanted) in states


def matches_headers(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Compare the headers with the arguments of a binding; ``x-match`` says how.

    ``all`` (the default) and ``any`` leave out arguments that begin with ``x-``; ``all-with-x`` and
    ``any-with-x`` compare them too. An argument of None asks only for the presence of the header.
    """
    mode = arguments.get("x-match", "all")
    with_x = mode in {"all-with-x", "any-with-x"}
    verdicts = (
        name in headers and (value is None or _equal(value, headers[name]))
        for name, value in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    )
    return any(verdicts) if mode in {"any", "any-with-x"} else all(verdicts)


def _words(key: str) -> list[str]:
    return key.split(".") if key else []  # for RabbitMQ an empty key has no words, not an empty one


def _skip_hashes(states: set[int], wanted: list[str]) -> set[int]:
    closed = set()
    for state in states:
        position = state
        closed.add(position)
        while position < len(wanted) and wanted[position] == "#":
            position += 1
            closed.add(position)
    return closed


def _equal(wanted: Any, value: Any) -> bool:
    # RabbitMQ 4 has a binding's timestamp in seconds, and that of a header in milliseconds.
    return _comparable(wanted, ticks=1) == _comparable(value, ticks=1000)


def _comparable(value: Any, *, ticks: int) -> tuple[str, Any]:
    """Return a value that is equal exactly where RabbitMQ's would be (measured with 4.0).

    Unlike Python's, its booleans, whole numbers, floats and decimals never equal each other. For RabbitMQ 3
    an integer equals the same float, and a timestamp the number of its seconds.
    """
    if isinstance(value, Decimal):
        return "decimal", value.as_tuple()
    if isinstance(value, datetime):
        return "int", int(value.timestamp()) * ticks
    if isinstance(value, str | bytes | bytearray):
        return "text", value.encode() if isinstance(value, str) else bytes(value)
    if isinstance(value, list):
        return "list", [_comparable(each, ticks=ticks) for each in value]
    if isinstance(value, dict):
        return "table", {key: _comparable(each, ticks=ticks) for key, each in value.items()}
    return type(value).__name__, value
