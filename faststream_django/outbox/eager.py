"""Sends what a transaction left, once it has committed: on one thread of the process."""

from __future__ import annotations

from typing import cast

from faststream_django.outbox.sending import send_rows
from faststream_django.outbox.writing import Stored
from faststream_django.publishing.outgoing import Outgoing

__all__ = ["hand_over"]


def hand_over(stored: list[Outgoing], robust: bool) -> None:  # noqa: ARG001, FBT001
    """Take the rows of a transaction that has committed."""
    send_rows(cast("list[Stored]", stored))
