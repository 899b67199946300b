"""Bodies and headers for the eyes of operators: decoded, cut, and without what OUTBOX["REDACT"] names."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["REDACTED", "hidden", "shown_body", "shown_headers", "size"]

REDACTED = "***"
PARSED = 1_048_576
"""The most bytes that are parsed to be shown."""
SHOWN = 20_000
"""The most characters that are shown."""
HEX = 512
"""The most bytes that are shown as hex."""


def shown_body(body: bytes, redact: Collection[str]) -> str:
    """Return the body as text: JSON indented, other text as it is, the rest as hex.

    Where keys are to be hidden, only what has keys is shown.
    """
    if not body:
        return "(empty)"
    text = _decoded(body)
    parsed = None if text is None or len(body) > PARSED else _parsed(text, redact)
    if parsed is not None:
        return _cut(parsed)
    if redact:
        return (
            f"({size(body)} that are not JSON: not shown, since OUTBOX['REDACT'] cannot be applied to them)"
        )
    if text is not None:
        return _cut(_encodable(text))
    more = f"\n… ({size(body)} in all)" if len(body) > HEX else f"\n({size(body)})"
    return body[:HEX].hex(" ", -2) + more


def shown_headers(headers: Mapping[str, Any], redact: Collection[str]) -> str:
    """Return the headers as indented JSON, with values as the words that Python has for them."""
    if not headers:
        return "(none)"
    return _cut(_dumped(_hidden(dict(headers), _folded(redact))))


def hidden(headers: Mapping[str, Any], redact: Collection[str]) -> dict[str, Any]:
    """Return the headers as JSON can carry them, without what is to be hidden."""
    shown: dict[str, Any] = json.loads(_dumped(_hidden(dict(headers), _folded(redact))))
    return shown


def size(body: bytes) -> str:
    """Return the size in words."""
    return "1 byte" if len(body) == 1 else f"{len(body):,} bytes"


def _decoded(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _parsed(text: str, redact: Collection[str]) -> str | None:
    try:
        return _dumped(_hidden(json.loads(text), _folded(redact)))
    except (ValueError, RecursionError):  # no JSON, or more than Python takes
        return None


def _hidden(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): REDACTED if str(name).casefold() in names else _hidden(each, names)
            for name, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_hidden(each, names) for each in value]
    if names and isinstance(value, (str, bytes, bytearray)):
        return _hidden_inside(value, names)
    return value


def _hidden_inside(value: str | bytes | bytearray, names: Collection[str]) -> Any:
    """Hide in JSON within a text, too."""
    text = value if isinstance(value, str) else _decoded(bytes(value))
    if text is None or text.lstrip()[:1] not in {"{", "["}:
        return value
    try:
        return json.dumps(_hidden(json.loads(text), names), ensure_ascii=False)
    except json.JSONDecodeError:
        return value
    except (ValueError, RecursionError):  # JSON, and more than Python takes
        return REDACTED


def _folded(redact: Collection[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in redact)


def _dumped(value: Any) -> str:
    return _encodable(json.dumps(value, indent=2, ensure_ascii=False, default=_worded))


def _worded(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        text = _decoded(bytes(value))
        return text if text is not None else f"0x{bytes(value).hex()}"
    return str(value)


def _encodable(text: str) -> str:
    """Return a text that a response can carry: JSON may hold half a character."""
    return text.encode(errors="backslashreplace").decode()


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n… ({len(text):,} characters in all)"
