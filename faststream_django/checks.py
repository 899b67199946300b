"""System checks: what can be known before anything connects."""

from __future__ import annotations

import ssl
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from faststream_django.backends.base import Backend
from faststream_django.conf.broker_url import BrokerURL, parse_url, redacted
from faststream_django.conf.entries import (
    MEMORY_BACKEND,
    RABBIT_BACKEND,
    BrokerSettings,
    broker_aliases,
    broker_settings,
    is_configured,
    valid_brokers,
)
from faststream_django.conf.outbox import OutboxSettings
from faststream_django.conf.setting import shown
from faststream_django.exceptions import InvalidBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_deployment", "check_settings"]


def check_settings(**kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001  Django passes more
    """Check every entry of ``settings.FASTSTREAM``; nothing connects."""
    if not is_configured():
        return [
            CheckWarning(
                "FASTSTREAM is not set: nothing can be published.",
                hint="Set FASTSTREAM = {'default': {'URL': 'amqp://user:password@host/vhost'}}, or "
                "'memory://' to begin without a server.",
                id="faststream_django.W005",
            )
        ]
    try:
        aliases = broker_aliases()
    except InvalidBroker as error:
        return [_invalid(error)]
    return [message for alias in aliases for message in _check_broker(alias)]


def check_deployment(**kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001  Django passes more
    """Check what is fine on a laptop and wrong in production."""
    return [
        message for broker in valid_brokers() for url in broker.urls for message in _check_url(broker, url)
    ]


def _check_broker(alias: str) -> Iterator[CheckMessage]:
    try:
        settings = broker_settings(alias)
    except InvalidBroker as error:
        yield _invalid(error)
        return
    yield from _check_outbox(settings)
    backend = settings.backend
    if backend not in {RABBIT_BACKEND, MEMORY_BACKEND} and not _is_backend(backend):
        yield Error(
            f"FASTSTREAM[{shown(alias)}]['BACKEND']: {backend!r} cannot be imported, or is not a Backend.",
            hint="Name a subclass of faststream_django.backends.base.Backend, or leave 'BACKEND' "
            "out: the scheme of the URL chooses it.",
            id="faststream_django.E002",
        )


def _check_outbox(broker: BrokerSettings) -> Iterator[CheckMessage]:
    """Check what the app of the outbox cannot, where it is not installed."""
    place = f"FASTSTREAM[{shown(broker.alias)}]"
    if broker.uses_outbox and not apps.is_installed("faststream_django.outbox"):
        yield Error(
            f"{place} stores messages in the outbox, whose app is not installed.",
            hint="Add 'faststream_django.outbox' to INSTALLED_APPS, then run 'manage.py migrate'.",
            id="faststream_django.E003",
        )
    # What is hidden of a message is hidden of dead letters, too.
    elif not broker.uses_outbox and replace(broker.outbox, redact=()) != OutboxSettings():
        yield CheckWarning(
            f"{place}['OUTBOX'] has no effect: no message of this broker is stored.",
            hint="Set 'ON_COMMIT' or 'ON_FAILURE' to 'outbox', or leave 'OUTBOX' out.",
            id="faststream_django.W012",
        )


def _invalid(error: InvalidBroker) -> CheckMessage:
    return Error(
        str(error),
        hint=f"Correct settings.FASTSTREAM; until then, publishing there raises {type(error).__name__}.",
        id="faststream_django.E001",
    )


def _is_backend(path: str) -> bool:
    try:
        backend = import_string(path)
    except ImportError:
        return False
    return isinstance(backend, type) and issubclass(backend, Backend)


def _check_url(broker: BrokerSettings, text: str) -> Iterator[CheckMessage]:
    place = f"FASTSTREAM[{shown(broker.alias)}]['URL']: {redacted(text)}"
    url = parse_url(text)
    if url.scheme == "memory":
        yield CheckWarning(
            f"{place} is the embedded broker: it loses its messages with the process.",
            hint="Use the URL of a RabbitMQ server, or leave this alias out in production.",
            id="faststream_django.W003",
        )
        return
    security = broker.options.get("security")
    if broker.url_source is not None:
        pass  # the password is known when it is read
    elif _is_guest(url, security):
        yield CheckWarning(
            f"{place} uses the account 'guest', whose password everyone knows.",
            hint="Add a user with 'rabbitmqctl add_user', give it permissions on its virtual host "
            "only, and delete 'guest'.",
            id="faststream_django.W001",
        )
    elif _is_guessable(url, security):
        yield CheckWarning(
            f"{place} uses a password that is guessed first: none, 'guest', or the name of the user.",
            hint="Set a long random one with 'rabbitmqctl change_password'.",
            id="faststream_django.W006",
        )
    if url.scheme == "amqp" and not _has_tls(security) and not _is_loopback(url.host):
        yield CheckWarning(
            f"{place} is not encrypted: the password and the messages cross the network as text.",
            hint="Use amqps:// and the TLS port of the server (5671).",
            id="faststream_django.W002",
        )
    if _accepts_any_certificate(url, security):
        yield CheckWarning(
            f"{place} does not verify the server's certificate: anyone can pose as the server.",
            hint="Remove no_verify_ssl=1, and name the authority of the certificate with "
            "?cafile=/path/to/ca.pem if it is your own. Leave verify_mode and check_hostname of an "
            "ssl_context as ssl.create_default_context() makes them.",
            id="faststream_django.W004",
        )


def _is_guest(url: BrokerURL, security: Any) -> bool:
    if url.parameters.get("auth", "").upper() == "EXTERNAL" or _is_external(security):
        return False
    # FastStream fills in "guest" where there is no name.
    return (getattr(security, "username", None) or url.username or "guest") == "guest"


def _is_guessable(url: BrokerURL, security: Any) -> bool:
    if url.parameters.get("auth", "").upper() == "EXTERNAL" or _is_external(security):
        return False
    if password := getattr(security, "password", None):
        return password in {"guest", getattr(security, "username", None)}
    return url.has_guessable_password


def _is_external(security: Any) -> bool:
    if security is None:
        return False
    from faststream.rabbit.security import RabbitExternalAuth

    return isinstance(security, RabbitExternalAuth)


def _has_tls(security: Any) -> bool:
    return bool(getattr(security, "use_ssl", False))


def _accepts_any_certificate(url: BrokerURL, security: Any) -> bool:
    context = getattr(security, "ssl_context", None)
    if context is not None:  # it replaces the parameters of the URL
        return context.verify_mode == ssl.CERT_NONE or not context.check_hostname
    return url.parameters.get("no_verify_ssl") == "1"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
