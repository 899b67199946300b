"""What can be known before a message is handled where nobody can record it."""

import pytest
from django.core.checks import Tags, registry, run_checks
from django.db import connections

from faststream_django.inbox.checks import check_idempotent_handlers, check_inbox_tables
from faststream_django.inbox.models import HandledMessage
from tests.worker.conftest import make_app  # noqa: F401  a fixture

BOTH = ["default", "other"]

reads_databases = pytest.mark.django_db(databases=BOTH)

SUBSCRIBERS = """
from faststream.rabbit import RabbitRouter
from faststream_django.inbox import idempotent

router = RabbitRouter()

@router.subscriber("orders")
@idempotent
def handle(body: dict) -> None: ...

@router.subscriber("audit")
def audit(body: dict) -> None: ...
"""


class Router:
    """Allows the inbox in some databases."""

    def __init__(self, *allowed):
        self.allowed = allowed

    def allow_migrate(self, db, app_label, **hints):
        return db in self.allowed if app_label == "faststream_inbox" else None


@pytest.fixture
def subscribers(make_app):  # noqa: F811
    def install(source=SUBSCRIBERS, **replaced):
        for old, new in replaced.items():
            source = source.replace(f"@{old}", new)
        make_app(source)

    return install


def ids(messages):
    assert all(message.hint for message in messages)
    return [message.id.removeprefix("faststream_django.") for message in messages]


def without_app(settings):
    settings.INSTALLED_APPS = [each for each in settings.INSTALLED_APPS if not each.endswith(".inbox")]


def test_handlers_that_have_what_they_need_pass(subscribers):
    subscribers()

    assert check_idempotent_handlers() == []


def test_site_without_idempotent_handlers_needs_nothing(subscribers, settings):
    subscribers(idempotent="")
    without_app(settings)

    assert check_idempotent_handlers() + check_inbox_tables(databases=BOTH) == []


def test_checks_are_registered():
    assert check_idempotent_handlers in registry.registry.deployment_checks
    assert "faststream_django" in check_idempotent_handlers.tags
    assert check_inbox_tables in registry.registry.deployment_checks
    assert Tags.database in check_inbox_tables.tags


def test_missing_app_is_an_error(subscribers, settings):
    subscribers()
    without_app(settings)

    (message,) = check_idempotent_handlers()

    assert ids([message]) == ["E006"]
    assert ".subscribers.handle() needs the app 'faststream_django.inbox'" in message.msg
    assert check_inbox_tables(databases=BOTH) == []


def test_unknown_database_is_an_error(subscribers):
    subscribers(idempotent="@idempotent(using='otter')")

    (message,) = check_idempotent_handlers()

    assert ids([message]) == ["E007"]
    assert "using='otter'" in message.msg
    assert message.hint == "Name one of 'default', 'other'."


def test_router_that_forbids_the_table_there_is_an_error(subscribers, settings):
    subscribers(idempotent="@idempotent(using='other')")

    settings.DATABASE_ROUTERS = [Router("default")]
    assert ids(check_idempotent_handlers()) == ["E007"]

    settings.DATABASE_ROUTERS = [Router("other")]
    assert ids(check_idempotent_handlers()) == []


def test_unknown_engine_is_an_error(subscribers, monkeypatch):
    subscribers()
    monkeypatch.setattr(connections["default"], "vendor", "oracle")

    (message,) = check_idempotent_handlers()

    assert ids([message]) == ["E008"]
    assert "'default' (oracle)" in message.msg


def test_handler_whose_result_is_published_is_reported(subscribers):
    subscribers(idempotent='@router.publisher("done")\n@idempotent')

    assert ids(check_idempotent_handlers()) == ["W014"]


@reads_databases
def test_missing_table_is_reported_where_it_is_asked_for(subscribers, monkeypatch):
    subscribers()
    assert check_inbox_tables(databases=BOTH) == []

    monkeypatch.setattr(HandledMessage._meta, "db_table", "not_migrated")

    assert check_inbox_tables(databases=None) == check_inbox_tables(databases=["other"]) == []
    (message,) = check_inbox_tables(databases=BOTH)
    assert ids([message]) == ["W013"]
    assert "migrate faststream_inbox --database default" in message.hint


@reads_databases
def test_both_run_with_the_command(subscribers, settings, monkeypatch):
    subscribers(idempotent='@router.publisher("done")\n@idempotent')
    monkeypatch.setattr(HandledMessage._meta, "db_table", "not_migrated")

    messages = run_checks(include_deployment_checks=True, databases=["default"])

    assert {"faststream_django.W013", "faststream_django.W014"} <= {each.id for each in messages}
    assert "faststream_django.W014" not in {each.id for each in run_checks()}
