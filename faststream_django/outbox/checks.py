"""System checks of the outbox: where rows can be stored, and whether a relay sends them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from faststream_django.conf.entries import BrokerSettings, broker_settings
from faststream_django.conf.setting import shown
from faststream_django.exceptions import OutboxNotReady
from faststream_django.outbox.durations import spoken
from faststream_django.outbox.engines import clock
from faststream_django.outbox.models import Lease, OutboxMessage
from faststream_django.outbox.operating import outbox_aliases
from faststream_django.outbox.selecting import brokers_in, database_now
from faststream_django.outbox.tables import missing_tables

__all__ = ["check_databases", "check_outbox", "check_relays"]

UNSEEN = 300.0
"""Seconds without a sign of life after which a relay is missed."""
SHORTEST_GRACE = 1.0
SHORTEST_RETENTION = 3600.0


def check_outbox(**kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001  Django passes more
    """Check the settings of the outbox, and what the routers say; nothing connects."""
    brokers = [broker_settings(alias) for alias in outbox_aliases()]
    if not brokers:
        return []
    return [*_check_placement(), *(message for broker in brokers for message in _check_times(broker))]


def check_databases(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Check the tables in the databases that are named, by check --deploy --database."""
    if not outbox_aliases():
        return []
    messages: list[CheckMessage] = []
    for using in databases or ():
        if _takes_rows(using):
            messages += [_missing(using, table) for table in missing_tables(using)]
            messages += _check_autovacuum(connections[using])
    return messages


def check_relays(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Check that a relay was seen not long ago, for each broker that needs one."""
    return [
        message
        for using in databases or ()
        if _takes_rows(using) and not missing_tables(using)
        for message in _check_leases(using)
    ]


def _check_placement() -> Iterator[CheckMessage]:
    model = OutboxMessage
    allowed = [using for using in connections if router.allow_migrate_model(using, model)]
    if not allowed:
        yield Error(
            "The routers in DATABASE_ROUTERS allow the tables of the outbox in no database.",
            hint="Let allow_migrate() return None or True for the app 'faststream_outbox' in each database "
            "whose transactions publish.",
            id="faststream_django.E004",
        )
        return
    for using in allowed:
        connection = connections[using]
        if _is_known(connection):
            continue
        text = (
            f"The outbox does not know the engine of the database {using!r} ({connection.vendor}): "
            "publishing in its transactions raises OutboxNotReady."
        )
        hint = (
            "Use PostgreSQL, MySQL, MariaDB or SQLite for what publishes, and let a router's allow_migrate() "
            f"return False for the app 'faststream_outbox' in {using!r}."
        )
        if using == router.db_for_write(model):
            yield Error(text, hint=hint, id="faststream_django.E005")
        else:
            yield CheckWarning(text, hint=hint, id="faststream_django.W007")


def _check_times(broker: BrokerSettings) -> Iterator[CheckMessage]:
    outbox, place = broker.outbox, f"FASTSTREAM[{shown(broker.alias)}]['OUTBOX']"

    def warn(text: str, hint: str) -> CheckMessage:
        return CheckWarning(f"{place}{text}", hint=hint, id="faststream_django.W011")

    if outbox.lease < 3 * broker.timeout:
        yield warn(
            f"['LEASE'] is {outbox.lease:g} s: the relay waits for a confirm no longer than a third of that, "
            f"less than the TIMEOUT of {broker.timeout:g} s.",
            f"Set 'LEASE' to at least {3 * broker.timeout:g}, or a shorter 'TIMEOUT'.",
        )
    if outbox.eager and outbox.grace < SHORTEST_GRACE:
        yield warn(
            f"['GRACE'] is {outbox.grace:g} s: nearly every message is the relay's before the process that "
            "committed it can send it.",
            "Set 'GRACE' to some seconds, or 'EAGER' to False if only the relay is to send.",
        )
    if outbox.retain_dead is not None and outbox.retain_dead < SHORTEST_RETENTION:
        yield warn(
            f"['RETAIN_DEAD'] is {outbox.retain_dead:g} s: dead messages are gone before anybody can look.",
            "Set 'RETAIN_DEAD' to days, such as 7 * 86400, or leave it out.",
        )


def _missing(using: str, table: str) -> CheckMessage:
    return CheckWarning(
        f"The database {using!r} has no table {table!r}: publishing in its transactions raises "
        "OutboxNotReady.",
        hint=f"Run 'manage.py migrate faststream_outbox --database {using}'. If nothing publishes there, let "
        "a router's allow_migrate() return False for the app 'faststream_outbox'.",
        id="faststream_django.W008",
    )


def _check_autovacuum(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Rows come and go: without vacuum, reading a few gets slower with each that there ever was."""
    if connection.vendor != "postgresql":
        return
    hint = "Turn it on: each message is a row that is deleted, and what nobody removes makes reading slow."
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM pg_settings WHERE name IN ('autovacuum', 'track_counts') AND setting = 'off'"
        )
        off = [name for (name,) in cursor.fetchall()]
        cursor.execute(
            "SELECT relname FROM pg_class, pg_options_to_table(reloptions) WHERE oid = to_regclass(%s) "
            "AND option_name = 'autovacuum_enabled' AND NOT option_value::boolean",
            [connection.ops.quote_name(OutboxMessage._meta.db_table)],  # noqa: SLF001
        )
        tables = [name for (name,) in cursor.fetchall()]
    for name in off:
        yield CheckWarning(
            f"The server of the database {connection.alias!r} does not vacuum: {name} is off.",
            hint=hint,
            id="faststream_django.W009",
        )
    for name in tables:
        yield CheckWarning(
            f"The table {name!r} in the database {connection.alias!r} is not vacuumed: autovacuum_enabled "
            "is off.",
            hint=hint,
            id="faststream_django.W009",
        )


def _check_leases(using: str) -> Iterator[CheckMessage]:
    now, stored = database_now(using), set(brokers_in(using))
    seen: dict[str, Any] = dict(Lease.objects.using(using).values_list("broker", "seen_at"))
    is_main = using == router.db_for_write(OutboxMessage)
    for alias in outbox_aliases():
        # The embedded broker's relay lives in the process that publishes. And in a database where no
        # message was ever stored, none is needed.
        if broker_settings(alias).is_embedded or not (is_main or alias in seen or alias in stored):
            continue
        last = seen.get(alias)
        age = (now - last).total_seconds() if last is not None and last.timestamp() > 0 else None
        if age is not None and age <= UNSEEN:
            continue
        sign = "none was ever seen" if age is None else f"the last sign of one is {spoken(age)} old"
        yield CheckWarning(
            f"No relay sends the messages for the broker {alias!r} that are stored in the database "
            f"{using!r}: {sign}.",
            hint="Keep 'manage.py faststream_relay' running, or 'manage.py faststream_worker --relay'.",
            id="faststream_django.W010",
        )


def _takes_rows(using: str) -> bool:
    return bool(router.allow_migrate_model(using, OutboxMessage)) and _is_known(connections[using])


def _is_known(connection: BaseDatabaseWrapper) -> bool:
    try:
        clock(connection)
    except OutboxNotReady:
        return False
    return True
