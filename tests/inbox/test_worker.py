"""A worker refuses to start where its idempotent handlers could record nothing."""

import pytest
from django.db import connections

from faststream_django.exceptions import InboxNotReady
from faststream_django.inbox.uses import refuse_unready_uses
from tests.worker.commands import write_project
from tests.worker.conftest import start_worker  # noqa: F401  a fixture

pytestmark = pytest.mark.processes

SUBSCRIBERS = """
from faststream.rabbit import RabbitRouter
from faststream_django.inbox import idempotent

router = RabbitRouter(prefix="inbox-")

@router.subscriber("orders")
@idempotent
def handle(body: dict) -> None: ...

@router.subscriber("audit")
def audit(body: dict) -> None: ...
"""
INSTALLED = """
INSTALLED_APPS += ["faststream_django.inbox"]
DATABASES["default"]["NAME"] = "shop.sqlite3"
"""


@pytest.fixture
def refused(tmp_path, start_worker, unreachable_port):  # noqa: F811
    """Start a worker that ends; return its exit code and what it said."""

    def refused(settings, *arguments):
        write_project(tmp_path, SUBSCRIBERS, settings)
        worker = start_worker(f"amqp://127.0.0.1:{unreachable_port}", *arguments)
        return worker.wait(), worker.output

    return refused


@pytest.mark.parametrize("arguments", [(), ("--processes", "2")], ids=["alone", "processes"])
def test_missing_app_ends_the_worker(refused, arguments):
    code, output = refused("", *arguments)

    assert code == 2
    assert "@idempotent needs the app 'faststream_django.inbox': add it to INSTALLED_APPS" in output


def test_missing_table_ends_the_worker(refused):
    code, output = refused(INSTALLED)

    assert code == 2
    assert "run 'manage.py migrate faststream_inbox --database default'" in output


def test_handlers_of_other_queues_are_left_out(tmp_path, start_worker, unreachable_port):  # noqa: F811
    write_project(tmp_path, SUBSCRIBERS)

    worker = start_worker(f"amqp://127.0.0.1:{unreachable_port}", "--queues", "inbox-audit")

    worker.wait_for("state=unavailable")
    assert worker.stop() == 0


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_database_that_is_away_does_not_keep_a_worker_from_its_start(monkeypatch, caplog):
    from faststream.rabbit import RabbitRouter

    from faststream_django.inbox import idempotent

    router = RabbitRouter()
    router.subscriber("orders")(idempotent(consumer="a")(lambda body: None))
    refuse_unready_uses([router], ["orders"])
    connections["default"].close()
    monkeypatch.setitem(connections["default"].settings_dict, "PORT", "1")

    refuse_unready_uses([router], ["orders"])

    assert "database=default state=away error=OperationalError" in caplog.text


def test_unknown_database_is_refused():
    from faststream.rabbit import RabbitRouter

    from faststream_django.inbox import idempotent

    router = RabbitRouter()
    router.subscriber("orders")(idempotent(consumer="a", using="otter")(lambda body: None))

    with pytest.raises(InboxNotReady, match="'otter'"):
        refuse_unready_uses([router], ["orders"])
