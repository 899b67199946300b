"""``manage.py faststream_worker``: consume until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from faststream_django.conf.entries import broker_settings
from faststream_django.exceptions import BrokerRefused, InvalidBroker
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

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        alias = options["broker"]
        worker = Worker(_settings(alias), autodiscover())
        queues = ", ".join(worker.queues)
        if not queues:
            raise CommandError(
                "There is nothing to consume: no subscribers.py of an installed app has a "
                "FastStream RabbitRouter with subscribers at its module level."
            )

        def announce() -> None:
            self.stdout.write(f"Consuming from broker {alias!r}: {queues}")
            self.stdout.flush()

        try:
            asyncio.run(worker.run(announce))
        except BrokerRefused as error:
            raise CommandError(f"Broker {alias!r}: {error}") from None
        self.stdout.write("Stopped.")


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
