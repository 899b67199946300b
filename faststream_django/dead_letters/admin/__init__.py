"""The pages in Django's admin: queues with dead letters, those of one queue, and one of them in full."""

from __future__ import annotations

from faststream_django.dead_letters.admin.pages import DeadLetterAdmin

__all__ = ["DeadLetterAdmin"]
