"""The app: messages are stored from when it is installed."""

from __future__ import annotations

from functools import partial

from django.apps import AppConfig
from django.core.checks import Tags, register

from faststream_django.publishing import durable
from faststream_django.publishing.outgoing import Outgoing

__all__ = ["OutboxConfig"]


class OutboxConfig(AppConfig):
    """The outbox of faststream_django."""

    name = "faststream_django.outbox"
    label = "faststream_outbox"
    verbose_name = "FastStream outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let the verbs store messages; register the checks."""
        from faststream_django.outbox import eager
        from faststream_django.outbox.checks import check_databases, check_outbox, check_relays
        from faststream_django.outbox.relay.in_process import relay_in_process
        from faststream_django.outbox.writing import store_with

        def hand_over(stored: list[Outgoing], robust: bool) -> None:  # noqa: FBT001
            relay_in_process()
            eager.hand_over(stored, robust)

        durable.install(partial(store_with, hand_over))
        # With the label of the core's checks, for commands that run these only.
        register(check_outbox, "faststream_django")
        # Not by migrate, which checks databases before it makes the tables.
        register(check_databases, Tags.database, deploy=True)
        register(check_relays, Tags.database, deploy=True)
