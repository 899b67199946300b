"""The app: its page in Django's admin. The command needs no app but faststream_django."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["DeadLettersConfig"]


class DeadLettersConfig(AppConfig):
    """The dead letters of faststream_django in the admin."""

    name = "faststream_django.dead_letters"
    label = "faststream_dead_letters"
    verbose_name = "FastStream dead letters"
