"""Messages: what is published, encoded and checked in the caller's thread."""

from faststream_django.messages.message import Message

__all__ = ["Message"]
