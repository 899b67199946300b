"""The app: registers the checks, and starts the brokers where a server starts."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from django.apps import AppConfig, apps
from django.core.checks import Tags, register

from faststream_django.checks import check_deployment, check_settings
from faststream_django.conf.entries import (
    broker_aliases,
    broker_settings,
    conceal_passwords,
    valid_brokers,
)
from faststream_django.exceptions import InvalidBroker
from faststream_django.inbox.checks import check_idempotent_handlers, check_inbox_tables
from faststream_django.registry import brokers
from faststream_django.worker.in_process import consume_in_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

logger = logging.getLogger("faststream_django")

_APPLICATIONS = {
    ("django.core.wsgi", "get_wsgi_application"),
    ("django.core.asgi", "get_asgi_application"),
}
_COMMAND = ("django.core.management", "ManagementUtility.execute")


class FastStreamDjangoConfig(AppConfig):
    """Publish to a message broker from Django."""

    name = "faststream_django"
    verbose_name = "FastStream"

    def ready(self) -> None:
        """Conceal the passwords, register the checks; in a server process, begin to connect."""
        conceal_passwords()
        register(check_settings, self.label)
        register(check_deployment, self.label, deploy=True)
        # Here, since they tell when the app of the inbox is missing.
        register(check_idempotent_handlers, self.label, deploy=True)
        register(check_inbox_tables, Tags.database, deploy=True)
        consume_in_process()
        if is_server_process():
            start_brokers()
            relay_in_process()


def relay_in_process() -> None:
    """Relay what is stored for embedded brokers, if the app faststream_django.outbox is installed."""
    if not apps.is_installed("faststream_django.outbox"):
        return
    # Before the import, which the start of a server would wait for.
    if any(each.is_embedded and each.uses_outbox for each in valid_brokers()):
        from faststream_django.outbox.relay import in_process

        in_process.relay_in_process()


def is_server_process() -> bool:
    """Tell whether the apps are being loaded by a server that will handle requests.

    True below get_wsgi_application() and get_asgi_application(), and in the process of ``runserver``
    that serves. Other commands, scripts, shells and tests connect when they publish.
    """
    for frame in _callers():
        function = (frame.f_globals.get("__name__"), frame.f_code.co_qualname)
        if function in _APPLICATIONS:
            return not _is_uwsgi_master()
        if function == _COMMAND:
            return _serves(frame.f_locals["self"].argv)
    return False


def _is_uwsgi_master() -> bool:
    """Tell whether uWSGI loads the site before it forks its workers.

    It forks in C, without Python's hooks and without the GIL: a thread that runs here would leave the
    workers waiting for a GIL that nobody releases. They start their own with their first message.
    """
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  inspect.stack() reads source files
    while frame is not None:
        yield frame
        frame = frame.f_back


def _serves(argv: list[str]) -> bool:
    # The reloader's parent loads the apps too, but only its child has RUN_MAIN.
    return argv[1:2] == ["runserver"] and ("--noreload" in argv or os.environ.get("RUN_MAIN") == "true")


def start_brokers() -> None:
    """Begin to connect where AUTOSTART is True. Never raises: a site starts without its broker."""
    for alias in _aliases():
        try:
            if broker_settings(alias).autostart:
                brokers.start(alias)
        except Exception as error:  # noqa: BLE001  see above
            _log_not_started(error)


def _aliases() -> tuple[str, ...]:
    try:
        return broker_aliases()
    except InvalidBroker as error:
        _log_not_started(error)
        return ()


def _log_not_started(error: Exception) -> None:
    # The text of a foreign error may hold a URL; the first publish raises it in full.
    text = error if isinstance(error, InvalidBroker) else type(error).__name__
    logger.error("No broker was started: %s", text)
