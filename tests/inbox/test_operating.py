"""What operators ask and do, on tables of any size."""

import pytest
from django.db import connection

from faststream_django.inbox import operating
from faststream_django.inbox.models import HandledMessage
from faststream_django.inbox.operating import count_before, moment_ago, prune, stats
from tests.inbox.recorded import record_at

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]

DAY = 86_400.0


def moments(using="default"):
    return sorted(
        each.timestamp() for each in HandledMessage.objects.using(using).values_list("handled_at", flat=True)
    )


def test_stats_count_and_say_how_old():
    now = moment_ago("default", 0)
    record_at(now - 9 * DAY, now - DAY)

    found = stats("default")

    assert found["messages"] == 2
    assert 9 * DAY <= found["oldest_age_seconds"] < 9 * DAY + 60
    assert DAY <= found["newest_age_seconds"] < DAY + 60
    assert stats("other") == {"messages": 0, "oldest_age_seconds": None, "newest_age_seconds": None}


def test_prune_deletes_what_was_handled_before_the_moment():
    record_at(1000.0, 1999.5, 2000.0, 3000.0)

    assert count_before("default", 2000.0) == 2
    assert sum(prune("default", 2000.0)) == 2
    assert moments() == [2000.0, 3000.0]


def test_prune_works_in_the_database_that_is_named():
    record_at(1000.0)
    record_at(1000.0, using="other")

    assert sum(prune("other", 2000.0)) == 1
    assert (moments(), moments("other")) == ([1000.0], [])


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 35])
def test_prune_deletes_in_batches(monkeypatch, count):
    monkeypatch.setattr(operating, "BATCH", 10)
    record_at(*(1000.0 + number for number in range(count)), 5000.0)

    deleted = list(prune("default", 2000.0))

    assert deleted == [10] * (count // 10) + [count % 10]
    assert moments() == [5000.0]


def test_messages_of_one_moment_go_together(monkeypatch):
    monkeypatch.setattr(operating, "BATCH", 10)
    record_at(*[1000.123456789] * 25, *[1000.5] * 3)

    assert list(prune("default", 2000.0)) == [25, 3]


def test_prune_can_be_interrupted(monkeypatch):
    monkeypatch.setattr(operating, "BATCH", 10)
    record_at(*(1000.0 + number for number in range(35)))

    assert next(prune("default", 2000.0)) == 10
    connection.close()

    assert len(moments()) == 25
    assert sum(prune("default", 2000.0)) == 25
