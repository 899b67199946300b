"""The pages in Django's admin: messages and relays."""

from __future__ import annotations

from faststream_django.outbox.admin.messages import OutboxMessageAdmin
from faststream_django.outbox.admin.relays import LeaseAdmin

__all__ = ["LeaseAdmin", "OutboxMessageAdmin"]
