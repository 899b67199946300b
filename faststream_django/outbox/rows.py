"""A `Message` as a row, and back, without loss: the body as it is, the rest as JSON."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from faststream_django.messages.message import Message

__all__ = ["aged", "decode_properties", "encode_properties"]

# In columns of their own, and the expiration as the moment that it means.
_COLUMNS = {"body", "exchange", "routing_key", "message_id", "expiration"}
_DEFAULTS: dict[str, Any] = {
    each.name: {} if each.name == "headers" else each.default
    for each in fields(Message)
    if each.name not in _COLUMNS
}
# JSON has no such key of a header's table: a dict with this key is written as a list of pairs.
_TAG = "~"


def encode_properties(message: Message) -> str:
    """Return what has no column of its own, without what is as by default."""
    properties = {}
    for name, default in _DEFAULTS.items():
        value = getattr(message, name)
        if default is MISSING or value != default:
            properties[name] = _tagged(value)
    return json.dumps(properties, separators=(",", ":"))


def decode_properties(text: str) -> dict[str, Any]:
    """Return the arguments of `Message`; what a later version may have written is left out."""
    return {name: _untagged(value) for name, value in json.loads(text).items() if name in _DEFAULTS}


def aged(message: Message, seconds: float) -> Message | None:
    """Return the message as it is so many seconds after the call; None if it has expired."""
    if message.expiration is None:
        return message
    remaining = message.expiration - seconds
    return replace(message, expiration=remaining) if remaining > 0 else None


def _tagged(value: Any) -> Any:
    for kind, (tag, encode, _) in _TAGS.items():
        if isinstance(value, kind):
            return {_TAG: tag, "v": encode(value)}
    if isinstance(value, Mapping):
        if _TAG in value:
            return {_TAG: "table", "v": [[name, _tagged(each)] for name, each in value.items()]}
        return {name: _tagged(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tagged(each) for each in value]
    return value


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(each) for each in value]
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {name: _untagged(each) for name, each in value.items()}
    if value[_TAG] == "table":
        return {name: _untagged(each) for name, each in value["v"]}
    return _DECODERS[value[_TAG]](value["v"])


_TAGS: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    Decimal: ("decimal", str, Decimal),
    bytes: ("bytes", lambda value: b64encode(value).decode(), b64decode),
    bytearray: (
        "bytearray",
        lambda value: b64encode(value).decode(),
        lambda text: bytearray(b64decode(text)),
    ),
}
_DECODERS = {tag: decode for tag, _, decode in _TAGS.values()}
