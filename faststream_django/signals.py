"""Signals about messages, sent in the thread of the caller.

``message_published``: the broker confirmed the message; the arguments are ``message`` (a Message) and
``broker`` (its alias).
``message_failed``: the message was not confirmed; the same arguments, and ``error`` (a PublishError).
Django logs the error of a receiver that raises; the caller is not affected.
"""

from django.dispatch import Signal

__all__ = ["message_failed", "message_published"]

message_published = Signal()
message_failed = Signal()
