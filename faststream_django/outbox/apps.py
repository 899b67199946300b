"""The app: messages are stored from when it is installed."""

from __future__ import annotations

from functools import partial

from django.apps import AppConfig

from faststream_django.publishing import durable

__all__ = ["OutboxConfig"]


class OutboxConfig(AppConfig):
    """The outbox of faststream_django."""

    name = "faststream_django.outbox"
    label = "faststream_outbox"
    verbose_name = "FastStream outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let the verbs store messages."""
        from faststream_django.outbox.eager import hand_over
        from faststream_django.outbox.writing import store_with

        durable.install(partial(store_with, hand_over))
