"""What a test has its requests answered with."""

from __future__ import annotations

from typing import Any

from faststream_django.exceptions import PublishError
from faststream_django.messages.message import Message
from faststream_django.messages.reply import Reply
from faststream_django.testing.failing import make_error

__all__ = ["NO_REPLY", "make_reply"]


class _NoReply:
    def __repr__(self) -> str:
        return "<no reply>"


NO_REPLY: Any = _NoReply()
"""The default of `reply_with`, as None is a reply too."""


def make_reply(reply_with: Any, alias: str, request: Message) -> Reply:
    """Return what comes back for a request to a broker, or raise what it fails with.

    `reply_with` is what a handler would return, or a function that takes the `Message` and returns that.
    """
    value = reply_with(request) if callable(reply_with) and not isinstance(reply_with, type) else reply_with
    if isinstance(value, PublishError) or (isinstance(value, type) and issubclass(value, PublishError)):
        raise make_error(value, request, alias)
    # A handler that returns nothing sends an empty body.
    return Reply(Message.encode(b"" if value is None else value, "reply"))
