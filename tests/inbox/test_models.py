"""The table, on each engine."""

import pytest
from django.db import IntegrityError, connection

from faststream_django.inbox.models import HandledMessage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine")]

DIGEST = bytes(range(240, 256))


def test_digest_survives_the_trip_through_the_database():
    HandledMessage.objects.create(digest=DIGEST, handled_at=1000.5)

    row = HandledMessage.objects.get(digest=DIGEST)

    assert row.digest == row.pk == DIGEST
    assert row.handled_at.timestamp() == 1000.5
    assert str(row) == DIGEST.hex()


def test_digest_is_there_once():
    HandledMessage.objects.create(digest=DIGEST, handled_at=1)

    with pytest.raises(IntegrityError):
        HandledMessage.objects.create(digest=DIGEST, handled_at=2)


def test_digest_takes_16_bytes(engine):
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, HandledMessage._meta.db_table)
        if engine == "mariadb":
            cursor.execute(
                "SELECT column_type FROM information_schema.columns WHERE table_schema = database() "
                "AND table_name = 'faststream_inbox' AND column_name = 'digest'"
            )
            assert cursor.fetchone() == ("binary(16)",)
    kinds = {column.name: column.type_code for column in columns}

    assert engine == "mariadb" or kinds["digest"] == {"postgresql": 2950, "sqlite": "BLOB"}[engine]
