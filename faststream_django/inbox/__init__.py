"""The inbox: a message is handled once, and its id is recorded in the transaction of its handler."""

from faststream_django.inbox.idempotence import idempotent

__all__ = ["idempotent"]
