"""Bodies as a shell gives them: where they are read, how long they may be, what they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, NoReturn

from faststream_django.exceptions import InvalidMessage

__all__ = ["WrongUsage", "content_type_of", "json_problem", "opened", "read_body", "read_lines"]


class WrongUsage(Exception):
    """The arguments do not say what to publish; nothing was sent."""


def read_body(body: str | None, file: str | None, limit: int, content_type: str | None) -> bytes:
    """Return BODY, or what the file or standard input has, of which no more than the limit is held.

    A file named .json must be JSON, unless its content type says that it is something else.
    """
    if body is not None and body != "-":
        return body.encode(errors="surrogateescape")
    with opened(file, body) as stream:
        try:
            content = stream.read(limit + 1)
        except OSError as error:
            raise WrongUsage(f"The body cannot be read: {error.strerror}.") from None
    if len(content) > limit:
        raise InvalidMessage(f"The body {_too_long(limit)}.")
    if not content and body is None and file is None:
        raise WrongUsage("There is no body: standard input is empty. Pass BODY, or - for an empty one.")
    is_json = Path(file or "").suffix == ".json" and not content_type
    if is_json and (problem := json_problem(content)):
        raise InvalidMessage(
            f"The file is named .json, but {problem}. To send it as it is, pass --content-type."
        )
    return content


def read_lines(
    stream: IO[bytes], limit: int, content_type: str | None
) -> Iterator[tuple[int, bytes, str | None]]:
    """Yield number, contents and problem of each line that is not empty, of a long one its beginning.

    Lines must be JSON, unless their content type says that they are something else.
    """
    kind = (content_type or "application/json").partition(";")[0].strip()
    is_json = kind == "application/json" or kind.endswith("+json")
    longest = limit + len(b"\r\n")
    is_first = True
    for number, line in enumerate(_beginnings(stream, longest), 1):
        body = line.rstrip(b"\r\n") if line.endswith(b"\n") else line
        if is_json and is_first and body.strip() in {b"{", b"["}:
            # Before a line of it that happens to be JSON is published.
            raise WrongUsage(
                f"Line {number:,} begins JSON that goes over several lines, and --lines publishes each line; "
                "write each message on one line, as `jq -c .` does (`jq -c '.[]'` for the items of a list)."
            )
        is_first &= not body.strip()
        if body.strip() and len(body) > limit:
            yield number, body, f"it {_too_long(limit)}"
        elif body.strip():
            yield number, body, json_problem(body) if is_json else None


def _beginnings(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield what the lines begin with, their end included if it is within the size."""
    while line := stream.readline(size):
        yield line
        while len(line) == size and not line.endswith(b"\n"):
            line = stream.readline(size)


def opened(file: str | None, body: str | None) -> AbstractContextManager[IO[bytes]]:
    """Open the file, or else standard input: a terminal only if it was asked for by '-'."""
    if file is not None:
        try:
            return Path(file).open("rb")
        except OSError as error:
            raise WrongUsage(f"--file {file!r} cannot be read: {error.strerror}.") from None
    if sys.stdin is None or (sys.stdin.isatty() and body is None):
        raise WrongUsage("There is no body: pass BODY, --file, or - to type it here (end with CTRL-D).")
    return nullcontext(sys.stdin.buffer)


def content_type_of(body: bytes) -> str:
    if json_problem(body) is None:
        return "application/json"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def json_problem(body: bytes) -> str | None:
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


def _too_long(limit: int) -> str:
    return (
        f"has more than the {limit:,} bytes that MAX_MESSAGE_BYTES allows; store the data elsewhere and "
        "send a reference to it, or raise MAX_MESSAGE_BYTES"
    )
