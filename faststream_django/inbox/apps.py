"""The app: the table, and the command that prunes it."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["InboxConfig"]


class InboxConfig(AppConfig):
    """The inbox of faststream_django."""

    name = "faststream_django.inbox"
    label = "faststream_inbox"
    verbose_name = "FastStream inbox"
    default_auto_field = "django.db.models.BigAutoField"
