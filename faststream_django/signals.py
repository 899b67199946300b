"""Signals about messages, sent in the thread of the caller, and for the outbox in the one that sends.

``message_published``: the broker confirmed the message; the arguments are ``message`` (a Message) and
``broker`` (its alias).
``message_failed``: the message was not confirmed; the same arguments, and ``error`` (a PublishError).
``message_deferred``: the message could not be sent and was stored in the outbox instead (``ON_FAILURE``);
the same arguments as message_failed.
``outbox_message_dead``: the outbox gives a message up after MAX_ATTEMPTS refusals, or at once if it can
never be sent; the same arguments as message_failed, and ``using`` (the alias of the database).
Django logs the error of a receiver that raises; the caller is not affected.
"""

from django.dispatch import Signal

__all__ = ["message_deferred", "message_failed", "message_published", "outbox_message_dead"]

message_published = Signal()
message_failed = Signal()
message_deferred = Signal()
outbox_message_dead = Signal()
