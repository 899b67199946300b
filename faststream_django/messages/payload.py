"""Payload -> bytes, in the caller's thread, with FastStream's mapping.

What FastStream accepts becomes the same bytes and content type here. On top of that come the lazy
strings and ``.values()`` query sets of Django; what would lose data or break a consumer is refused.
"""

from __future__ import annotations

import json
import math
import reprlib
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from django.utils.functional import LazyObject, Promise

from faststream_django.exceptions import InvalidMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from faststream._internal.parser import CodecProto

__all__ = ["encode_payload", "encode_with_codec"]

JSON = "application/json"
TEXT = "text/plain"


def encode_payload(payload: Any) -> tuple[bytes, str | None]:
    """Return the body and its content type, or raise InvalidMessage without showing the contents.

    Bytes go as they are, without a content type; text is UTF-8; everything else is JSON. ``None`` is
    refused: it is mostly a forgotten return, and FastStream would send an empty body.
    """
    # type(), because isinstance() would ask a lazy object for its class and so evaluate it.
    kind = type(payload)
    if kind is dict or kind is list:
        return _to_json(payload), JSON
    if payload is None:
        raise InvalidMessage(
            'the message is None; pass b"" for an empty body, or b"null" with content_type="application/json"'
        )
    if issubclass(kind, bytes | bytearray | memoryview):
        return bytes(payload), None
    if issubclass(kind, Promise):
        return _to_text(str(payload)), TEXT
    if issubclass(kind, str):
        return _to_text(payload), TEXT
    if issubclass(kind, LazyObject):
        _refuse_lazy_object(kind)
    # Errors of an iterator's own code reach the caller as they are; to_json() would hide them.
    return _to_json(list(payload) if hasattr(kind, "__next__") else payload), JSON


def encode_with_codec(codec: CodecProto, payload: Any) -> tuple[bytes, str | None]:
    """Drive FastStream's codec to its end in this thread; it gets the payload as it is."""
    name = type(codec).__qualname__
    try:
        encoding = codec.encode(payload, _serializer())
        encoding.send(None)
    except StopIteration as stop:
        return _checked_result(name, stop.value)
    except InvalidMessage:
        raise
    except Exception as error:
        raise InvalidMessage(
            f"the codec {name} failed on the {_name(payload)} with {_name(error)}. "
            "A codec runs in the caller's thread and must not await anything."
        ) from error
    _close(encoding)
    raise InvalidMessage(
        f"the codec {name} suspended while it encoded the {_name(payload)}. A codec runs in the "
        "caller's thread and must not await: do the work before publishing, or without await."
    )


def _to_text(text: str) -> bytes:
    try:
        return str.encode(text)
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"the text {_NOT_UNICODE}") from error


def _to_json(payload: Any) -> bytes:
    to_json = _json_encoder()
    problems: list[tuple[Any, BaseException]] = []

    def fallback(value: Any) -> Any:
        try:
            return _plain(value)
        except BaseException as error:
            problems.append((value, error))
            raise

    try:
        body = to_json(payload, fallback=fallback)
    except (ValueError, RecursionError) as error:
        if problems:
            # pydantic turns whatever a fallback raises, even KeyboardInterrupt, into its own error.
            _raise_problem(payload, *problems[0])
        raise InvalidMessage(_json_reason(payload, str(error))) from error
    # One letter is found ten times faster than a word, which counts in a body of a megabyte.
    if (b"N" in body and b"NaN" in body) or (b"I" in body and b"Infinity" in body):
        _check_finite(body)
    return body


def _plain(value: Any) -> Any:
    """Return what stands for a value that JSON does not know, as a value or as a key."""
    kind = type(value)
    if issubclass(kind, Promise):
        return str(value)
    if issubclass(kind, LazyObject):
        _refuse_lazy_object(kind)
    from django.db.models import Model, QuerySet  # slow, and rarely needed
    from django.db.models.query import ModelIterable

    if isinstance(value, QuerySet) and not issubclass(value._iterable_class, ModelIterable):  # noqa: SLF001
        return list(value)
    if isinstance(value, QuerySet):
        raise InvalidMessage(
            f"a query set of {value.model.__name__} objects cannot be encoded; "
            'use .values("id", ...) to say which fields leave the database'
        )
    if isinstance(value, Model):
        raise InvalidMessage(
            f"the model instance {kind.__name__} cannot be encoded; "
            "pass a dict, a dataclass or a serializer's data"
        )
    if callable(getattr(value, "routing", None)):
        raise InvalidMessage(f"the message is a {kind.__name__}; it comes first: publish(message, queue)")
    raise InvalidMessage(
        f"a value of type {kind.__module__}.{kind.__qualname__} cannot be encoded as JSON; "
        "pass a dict, a dataclass or a serializer's data"
    )


def _refuse_lazy_object(kind: type) -> NoReturn:
    raise InvalidMessage(
        f"the lazy object {kind.__name__} (such as request.user) cannot be encoded; "
        "pass a dict, a dataclass or a serializer's data"
    )


def _raise_problem(payload: Any, culprit: Any, error: BaseException) -> NoReturn:
    if isinstance(error, InvalidMessage) and error.broker is None:
        path = _path(payload, lambda value: value is culprit)
        raise InvalidMessage(f"message{path}: {error}" if path else str(error))
    raise error


_NOT_UNICODE = "is not valid Unicode (it has a lone surrogate); clean it where it enters the program"


def _json_reason(payload: Any, reason: str) -> str:
    """Say why pydantic gave up; its own text may quote the payload."""
    if "Circular reference" in reason:
        return f"the {_name(payload)} refers to itself; pass data without cycles"
    if "serialization depth" in reason or "recursion" in reason:
        return f"the {_name(payload)} is nested too deeply for JSON; flatten it"
    if "UnicodeEncodeError" in reason:
        return f"message{_path(payload, _is_broken_text)}: the text {_NOT_UNICODE}"
    if "invalid utf-8" in reason:
        path = _path(payload, _is_broken_bytes)
        return f"message{path}: the bytes are not UTF-8; encode them first, for example with base64"
    return (
        f"the {_name(payload)} cannot be encoded as JSON: the code that serializes one of its "
        "values failed; the cause is shown with this error"
    )


def _check_finite(body: bytes) -> None:
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return math.nan

    # A string may well contain "NaN": parse, and walk the result only when it is a number.
    # Integers stay text, because Python limits the digits that it converts.
    decoded = json.loads(body, parse_int=str, parse_constant=constant)
    if constants:
        path = _path(decoded, lambda value: isinstance(value, float) and math.isnan(value))
        raise InvalidMessage(
            f"message{path}: {constants[0]} is not JSON, and many consumers fail on it; use None or a str"
        )


def _path(payload: Any, wanted: Callable[[Any], bool]) -> str:
    """Return where a wanted value or key is, as ``['items'][0]``; empty when not found."""
    pending: list[tuple[str, Any]] = [("", payload)]
    seen: set[int] = set()
    while pending:
        path, value = pending.pop()
        if wanted(value):
            return path
        if id(value) in seen:
            continue
        seen.add(id(value))
        kind = type(value)
        if issubclass(kind, dict):
            pending += [(f"{path}[{_key(key)}]", key) for key in value]
            pending += [(f"{path}[{_key(key)}]", item) for key, item in dict.items(value)]
        elif issubclass(kind, list | tuple):
            pending += [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return ""


def _key(key: Any) -> str:
    return reprlib.repr(key) if type(key) in {str, int} else f"<{_name(key)}>"


def _is_broken_text(value: Any) -> bool:
    if not issubclass(type(value), str):
        return False
    try:
        str.encode(value)
    except UnicodeEncodeError:
        return True
    return False


def _is_broken_bytes(value: Any) -> bool:
    if not issubclass(type(value), bytes | bytearray):
        return False
    try:
        bytes(value).decode()
    except UnicodeDecodeError:
        return True
    return False


def _checked_result(name: str, result: Any) -> tuple[bytes, str | None]:
    match result:
        case (bytes() as body, (str() | None) as content_type):
            return body, content_type
    raise InvalidMessage(
        f"the codec {name} returned a {_name(result)}; it must return (bytes, content type or None)"
    )


def _close(encoding: Any) -> None:
    with suppress(RuntimeError):  # it awaits in `finally` too; there is nothing left to do
        encoding.close()


def _name(value: Any) -> str:
    return type(value).__name__


@cache
def _json_encoder() -> Callable[..., bytes]:
    from pydantic_core import to_json  # not at import: the package stays cheap

    return to_json


@cache
def _serializer() -> Any:
    from fast_depends.pydantic import PydanticSerializer  # FastStream's default

    return PydanticSerializer(use_fastdepends_errors=False)
