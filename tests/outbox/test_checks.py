"""What can be known before a message is stored where nobody sends it."""

import io

import pytest
from django.core.checks import Tags, registry, run_checks
from django.core.management import call_command
from django.db import connection, connections

from faststream_django.checks import check_settings
from faststream_django.outbox.checks import check_databases, check_outbox, check_relays
from faststream_django.outbox.models import Lease, OutboxMessage
from tests.outbox.stored import lead, store
from tests.outbox.waiting import wait_until

GOOD = "amqps://shop:hunter2@rabbit.example/shop"
BOTH = ["default", "other"]

reads_databases = pytest.mark.django_db(databases=BOTH)


class Router:
    """Allows the outbox in some databases, and writes to one."""

    def __init__(self, *allowed, writes="default"):
        self.allowed, self.writes = allowed, writes

    def allow_migrate(self, db, app_label, **hints):
        return db in self.allowed if app_label == "faststream_outbox" else None

    def db_for_write(self, model, **hints):
        return self.writes


@pytest.fixture
def configure(settings):
    def configure(url=GOOD, *, ON_COMMIT="outbox", **entry):  # noqa: N803
        settings.FASTSTREAM = {"default": {"URL": url, "ON_COMMIT": ON_COMMIT, **entry}}

    configure()
    return configure


def ids(messages):
    assert all(message.hint for message in messages)
    return [message.id.removeprefix("faststream_django.") for message in messages]


def test_right_settings_pass(configure):
    assert check_settings() == []
    assert check_outbox() == []


def test_checks_are_registered():
    assert check_outbox in registry.registry.registered_checks
    assert "faststream_django" in check_outbox.tags
    assert Tags.database in check_databases.tags
    assert check_relays in registry.registry.deployment_checks
    assert Tags.database in check_relays.tags


@pytest.mark.parametrize("entry", [{}, {"ON_COMMIT": "memory", "ON_FAILURE": "outbox"}])
def test_missing_app_is_an_error(configure, settings, entry):
    configure(**entry)
    settings.INSTALLED_APPS = [each for each in settings.INSTALLED_APPS if not each.endswith(".outbox")]

    assert ids(check_settings()) == ["E003"]


def test_settings_without_effect_are_reported(configure):
    configure(ON_COMMIT="memory", OUTBOX={"LEASE": 30.0})
    assert ids(check_settings()) == ["W012"]

    configure(ON_COMMIT="memory", ON_FAILURE="outbox", OUTBOX={"LEASE": 30.0})
    assert ids(check_settings()) == []


def test_what_is_hidden_of_dead_letters_has_an_effect_without_the_outbox(configure):
    configure(ON_COMMIT="memory", OUTBOX={"REDACT": ["email"]})

    assert ids(check_settings()) == []


def test_site_without_stored_messages_needs_nothing(configure, settings):
    configure(ON_COMMIT="memory")
    settings.DATABASE_ROUTERS = [Router()]

    assert check_outbox() + check_databases(databases=BOTH) + check_relays(databases=BOTH) == []


def test_router_that_forbids_the_tables_everywhere_is_an_error(configure, settings):
    settings.DATABASE_ROUTERS = [Router()]
    assert ids(check_outbox()) == ["E004"]

    settings.DATABASE_ROUTERS = [Router("other", writes="other")]
    assert ids(check_outbox()) == []


def test_unknown_engine_is_an_error_where_messages_go(configure, settings, monkeypatch):
    monkeypatch.setattr(connections["other"], "vendor", "oracle")
    assert ids(check_outbox()) == ["W007"]

    settings.DATABASE_ROUTERS = [Router("default", "other", writes="other")]
    messages = check_outbox()
    assert ids(messages) == ["E005"]
    assert "'other' (oracle)" in messages[0].msg

    settings.DATABASE_ROUTERS = [Router("default")]
    assert ids(check_outbox()) == []


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"OUTBOX": {"LEASE": 10.0}}, "LEASE"),
        ({"TIMEOUT": 6.0}, "LEASE"),
        ({"OUTBOX": {"GRACE": 0.5}}, "GRACE"),
        ({"OUTBOX": {"RETAIN_DEAD": 60.0}}, "RETAIN_DEAD"),
    ],
)
def test_times_that_do_not_go_together_are_reported(configure, entry, word):
    configure(**entry)

    messages = check_outbox()

    assert ids(messages) == ["W011"]
    assert messages[0].msg.startswith(f"FASTSTREAM['default']['OUTBOX']['{word}'] is ")


@pytest.mark.parametrize(
    "outbox", [{}, {"EAGER": False, "GRACE": 0.5}, {"LEASE": 30.0}, {"RETAIN_DEAD": 86_400.0}]
)
def test_times_that_go_together_pass(configure, outbox):
    configure(OUTBOX=outbox)

    assert check_outbox() == []


@reads_databases
def test_tables_are_looked_for_where_they_are_asked_for(configure, settings, monkeypatch):
    assert check_databases(databases=BOTH) == []

    monkeypatch.setattr(OutboxMessage._meta, "db_table", "not_migrated")
    monkeypatch.setattr(Lease._meta, "db_table", "not_migrated_either")

    assert check_databases(databases=None) == []
    messages = check_databases(databases=["other"])
    assert ids(messages) == ["W008", "W008"]
    assert "'other' has no table 'not_migrated'" in messages[0].msg
    assert "migrate faststream_outbox --database other" in messages[0].hint
    assert check_relays(databases=BOTH) == []

    settings.DATABASE_ROUTERS = [Router("default")]
    assert check_databases(databases=["other"]) == []


@pytest.mark.django_db(transaction=True, databases=BOTH)
def test_first_migration_is_not_told_of_the_table_that_it_creates(configure):
    call_command("migrate", "faststream_outbox", "zero", verbosity=0)
    try:
        errors = io.StringIO()
        call_command("migrate", "faststream_outbox", verbosity=0, skip_checks=False, stderr=errors)
        assert errors.getvalue() == ""
        assert check_databases(databases=["default"]) == []
    finally:
        call_command("migrate", "faststream_outbox", verbosity=0)


@pytest.mark.postgresql
@pytest.mark.django_db(databases=BOTH)
def test_table_that_is_not_vacuumed_is_reported(configure):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE faststream_outbox SET (autovacuum_enabled = off)")

    messages = check_databases(databases=BOTH)
    assert ids(messages) == ["W009"]
    assert "'faststream_outbox' in the database 'default'" in messages[0].msg

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE faststream_outbox SET (autovacuum_enabled = true, fillfactor = 90)")
    assert check_databases(databases=BOTH) == []


@pytest.mark.postgresql
@pytest.mark.django_db(databases=["default"])
def test_server_that_does_not_vacuum_is_reported(configure):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL track_counts = off")  # autovacuum itself is the server's

    messages = check_databases(databases=["default"])

    assert ids(messages) == ["W009"]
    assert "track_counts is off" in messages[0].msg


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_server_without_autovacuum_is_reported(configure, postgresql):
    postgresql.execute("ALTER SYSTEM SET autovacuum = off")
    postgresql.execute("SELECT pg_reload_conf()")
    try:
        wait_until(lambda: ids(check_databases(databases=["default"])) == ["W009"], "the warning")
    finally:
        postgresql.execute("ALTER SYSTEM RESET autovacuum")
        postgresql.execute("SELECT pg_reload_conf()")


@reads_databases
def test_relay_that_was_never_seen_is_missed(configure):
    messages = check_relays(databases=["default"])

    assert ids(messages) == ["W010"]
    assert messages[0].msg.endswith("stored in the database 'default': none was ever seen.")


@reads_databases
def test_relay_that_was_seen_long_ago_is_missed(configure):
    lease = lead(seen=360, left=-345)
    messages = check_relays(databases=["default"])
    assert ids(messages) == ["W010"]
    assert "6 min old" in messages[0].msg

    lease.delete()
    lead(seen=200, left=-185)
    assert check_relays(databases=["default"]) == []


@reads_databases
def test_lease_that_nobody_took_is_none(configure):
    Lease.objects.create(broker="default")

    assert "none was ever seen" in check_relays(databases=["default"])[0].msg


@reads_databases
def test_second_database_needs_a_relay_once_messages_were_stored(configure):
    lead()
    assert check_relays(databases=BOTH) == []

    store("other")
    assert ids(check_relays(databases=BOTH)) == ["W010"]


@reads_databases
def test_embedded_broker_needs_no_relay(configure):
    configure("memory://")

    assert check_relays(databases=["default"]) == []


@reads_databases
def test_all_of_them_run_with_the_command(configure, settings):
    settings.SILENCED_SYSTEM_CHECKS = []
    messages = run_checks(include_deployment_checks=True, databases=["default"])

    assert [each.id for each in messages if "faststream" in each.id] == ["faststream_django.W010"]
