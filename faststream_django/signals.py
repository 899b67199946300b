"""Signals about messages, sent in the thread of the caller.

``message_published``: the broker confirmed it; arguments ``message`` (Message) and ``broker`` (its alias).
``message_failed``: it was not confirmed; the same arguments and ``error`` (PublishError).
A receiver that raises is logged by Django and changes nothing for the caller.
"""

from django.dispatch import Signal

__all__ = ["message_failed", "message_published"]

message_published = Signal()
message_failed = Signal()
