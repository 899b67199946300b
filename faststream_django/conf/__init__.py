"""The ``FASTSTREAM`` setting: read when it is first asked for, checked, and shown without passwords."""

from faststream_django.conf.broker_url import redacted
from faststream_django.conf.entries import (
    BrokerSettings,
    TestRun,
    broker_aliases,
    broker_settings,
    broker_settings_from,
    conceal_passwords,
    is_configured,
)

__all__ = [
    "BrokerSettings",
    "TestRun",
    "broker_aliases",
    "broker_settings",
    "broker_settings_from",
    "conceal_passwords",
    "is_configured",
    "redacted",
]
