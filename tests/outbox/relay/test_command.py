"""What faststream_relay refuses, with which exit code, and whom it serves."""

import pytest
from django.core.management import CommandError, call_command

from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.relay.pairs import chosen_pairs, embedded_pairs

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Forbidding:
    """A router that wants the outbox in the database `default` only."""

    def allow_migrate(self, db, app_label, **hints):
        return db == "default" if app_label == "faststream_outbox" else None


@pytest.fixture
def site(settings, unreachable_port):
    """Have three brokers, of which only `orders` has something to relay to another process."""
    url = f"amqp://127.0.0.1:{unreachable_port}"
    settings.FASTSTREAM = {
        "orders": {"URL": url, "ON_COMMIT": "outbox", "TIMEOUT": 0.2},
        "mails": {"URL": url},
        "embedded": {"URL": "memory://", "ON_COMMIT": "outbox"},
    }
    return settings


def refused(*arguments):
    with pytest.raises(CommandError) as raised:
        call_command("faststream_relay", *arguments)
    assert raised.value.returncode == 2
    return str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--broker", "order"], "has no broker 'order' (did you mean 'orders'?)"),
        (["--broker", "mails"], "Nothing is stored for broker 'mails'"),
        (["--broker", "embedded"], "the process that publishes relays as well"),
        (["--database", "defaults"], "DATABASES has no 'defaults'"),
        (["--batch-size", "0"], "--batch-size must be 1 to 5000, not 0"),
        (["--liveness", "/nowhere/alive"], "--liveness: "),
    ],
)
def test_wrong_usage_is_refused(site, arguments, text):
    assert text in refused(*arguments)


def test_site_without_outbox_is_told(site):
    site.FASTSTREAM = {"mails": site.FASTSTREAM["mails"]}
    assert "Nothing is stored for any broker" in refused()

    site.FASTSTREAM = {"default": {"URL": "memory://", "ON_COMMIT": "outbox"}}
    assert "memory://" in refused()


def test_missing_table_is_refused(site, monkeypatch):
    monkeypatch.setattr(OutboxMessage._meta, "db_table", "not_migrated")

    assert "migrate" in refused("--database", "default")
    assert "migrate" in refused()


def test_database_that_a_router_forbids_is_refused(site):
    site.DATABASE_ROUTERS = [Forbidding()]

    assert "router" in refused("--database", "other")
    assert chosen_pairs([], []) == [("default", "orders")]


def test_all_that_can_be_served_is_the_default(site):
    assert chosen_pairs([], []) == [("default", "orders"), ("other", "orders")]
    assert chosen_pairs(["other", "other"], ["orders"]) == [("other", "orders")]
    assert embedded_pairs() == [("default", "embedded"), ("other", "embedded")]
