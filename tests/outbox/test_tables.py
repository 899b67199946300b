"""Whether a database can hold messages is known before one is stored."""

import pytest
from django.db import connections

from faststream_django.exceptions import OutboxNotReady
from faststream_django.outbox.models import OutboxMessage
from faststream_django.outbox.tables import missing_tables, refuse_without_tables

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


def test_missing_table_is_named(outbox, monkeypatch):
    assert missing_tables("default") == []
    refuse_without_tables("default")

    monkeypatch.setattr(OutboxMessage._meta, "db_table", "not_migrated")

    assert missing_tables("other") == ["not_migrated"]
    with pytest.raises(OutboxNotReady, match="migrate faststream_outbox --database other"):
        refuse_without_tables("other")


def test_unknown_engine_is_refused(outbox, monkeypatch):
    monkeypatch.setattr(connections["other"], "vendor", "oracle")

    with pytest.raises(OutboxNotReady, match="oracle"):
        refuse_without_tables("other")
