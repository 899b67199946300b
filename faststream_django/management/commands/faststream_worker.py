"""``manage.py faststream_worker``: consume until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import BrokerRefused, InvalidBroker, InvalidSubscriber
from faststream_django.worker.discovery import autodiscover
from faststream_django.worker.worker import Worker

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from faststream_django.conf.entries import BrokerSettings


class Command(BaseCommand):
    """Run the FastStream subscribers of the installed apps."""

    help = (
        "Runs the FastStream subscribers of the installed apps (<app>/subscribers.py). Stops "
        "gracefully on SIGTERM or CTRL-C: handlers have SHUTDOWN_TIMEOUT seconds to finish."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--broker",
            default="default",
            metavar="ALIAS",
            help="The alias in FASTSTREAM of the broker to consume from (default: %(default)s).",
        )
        parser.add_argument(
            "--relay",
            action="store_true",
            help="Also send what is stored in the outbox, as faststream_relay does: one process for all.",
        )

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        alias = options["broker"]
        worker = Worker(_settings(alias), autodiscover().get(alias, []))
        queues = ", ".join(worker.queues)
        if not queues:
            raise CommandError(
                "There is nothing to consume: no subscribers.py of an installed app has a "
                "FastStream RabbitRouter with subscribers at its module level."
            )

        def announce() -> None:
            self.stdout.write(f"Consuming from broker {alias!r}: {queues}")
            self.stdout.flush()

        with self._relaying() if options["relay"] else nullcontext():
            try:
                asyncio.run(worker.run(announce))
            except (BrokerRefused, InvalidSubscriber) as error:
                raise CommandError(f"Broker {alias!r}: {error}") from None
        self.stdout.write("Stopped.")

    @contextmanager
    def _relaying(self) -> Iterator[None]:
        """Run relays beside the worker. What its handlers store at the end is left to another one."""
        if not apps.is_installed("faststream_django.outbox"):
            raise CommandError("--relay needs 'faststream_django.outbox' in INSTALLED_APPS.")
        from faststream_django.outbox.relay.pairs import chosen_pairs
        from faststream_django.outbox.relay.running import Relays

        try:
            relays = Relays(chosen_pairs((), ()))
        except ImproperlyConfigured as error:
            raise CommandError(f"--relay: {str(error).removesuffix('.')}.") from None
        relays.start()
        for using, stored_for in relays.pairs:
            self.stdout.write(f"Relaying from database {using!r} to broker {stored_for!r}")
        try:
            yield
        finally:
            if not relays.stop():
                self.stderr.write("Not all relays ended in time; their leases run out by themselves.")


def _settings(alias: str) -> BrokerSettings:
    try:
        settings = broker_settings(alias)
    except InvalidBroker as error:
        raise CommandError(str(error)) from None
    if settings.is_embedded:
        raise CommandError(
            f"Broker {alias!r} is the embedded one (memory://): the process that publishes "
            "consumes as well, no worker is needed. Set its 'URL' to amqp://... to run a worker."
        )
    return settings
