"""For which databases and brokers relays run."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import Error, connections, router

from faststream_django.conf.entries import broker_settings
from faststream_django.conf.setting import did_you_mean, shown
from faststream_django.exceptions import OutboxNotReady
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.operating import outbox_aliases
from faststream_django.outbox.tables import missing_tables, refuse_without_tables

__all__ = ["chosen_pairs", "embedded_pairs"]


def chosen_pairs(databases: Iterable[str], aliases: Iterable[str]) -> list[tuple[str, str]]:
    """Return the databases and brokers that are named, or all that relays can serve.

    Raise InvalidBroker or OutboxNotReady for one that cannot be served.
    """
    return [(using, alias) for using in _databases(list(databases)) for alias in _aliases(list(aliases))]


def embedded_pairs() -> list[tuple[str, str]]:
    """Return those of the embedded brokers, which only their own process reaches."""
    aliases = [alias for alias in outbox_aliases() if broker_settings(alias).is_embedded]
    return [(using, alias) for using in _allowed() for alias in aliases]


def _databases(named: list[str]) -> list[str]:
    for using in named:
        if using not in connections:
            raise OutboxNotReady(
                f"DATABASES has no {shown(using)}{did_you_mean(using, tuple(connections))}; "
                f"its aliases are {', '.join(map(shown, connections))}"
            )
        if not router.allow_migrate_model(using, OutboxMessage):
            raise OutboxNotReady(f"A router forbids the tables of the outbox in the database {shown(using)}")
        if _has_no_tables(using):
            refuse_without_tables(using)
    if named:
        return list(dict.fromkeys(named))
    allowed = _allowed()
    found = [using for using in allowed if not _has_no_tables(using)]
    if not found and allowed:
        refuse_without_tables(allowed[0])
    if not found:
        raise OutboxNotReady("The routers forbid the tables of the outbox in every database")
    return found


def _allowed() -> list[str]:
    return [using for using in connections if router.allow_migrate_model(using, OutboxMessage)]


def _has_no_tables(using: str) -> bool:
    try:
        return bool(missing_tables(using))
    except Error:  # it cannot be asked now; the relay waits for it
        return False


def _aliases(named: list[str]) -> list[str]:
    for alias in named:
        settings = broker_settings(alias)
        if not settings.uses_outbox:
            raise OutboxNotReady(
                f"Nothing is stored for broker {shown(alias)}: set its 'ON_COMMIT' or 'ON_FAILURE' to "
                "'outbox'"
            )
        if settings.is_embedded:
            raise OutboxNotReady(_embedded(alias))
    if named:
        return list(dict.fromkeys(named))
    stored = outbox_aliases()
    found = [alias for alias in stored if not broker_settings(alias).is_embedded]
    if not found and stored:
        raise OutboxNotReady(_embedded(stored[0]))
    if not found:
        raise OutboxNotReady(
            "Nothing is stored for any broker: set 'ON_COMMIT' of an alias in FASTSTREAM to 'outbox'"
        )
    return found


def _embedded(alias: str) -> str:
    return (
        f"Broker {shown(alias)} is the embedded one (memory://): the process that publishes relays as "
        "well, and no other process reaches it. Set its 'URL' to amqp://... to run a relay"
    )
