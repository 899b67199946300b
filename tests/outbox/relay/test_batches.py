"""What a batch sends, in which order, and what it leaves in the table."""

import pytest

from faststream_django import publish_many_on_commit
from faststream_django.outbox.models import OutboxMessage
from tests.publishing.verbs import bodies

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("engine"),
]


def test_what_is_ready_is_sent_and_deleted(outbox, relay):
    publish_many_on_commit(range(3), "orders", ordering_key="a")

    relay()

    assert bodies(outbox.server) == [0, 1, 2]
    assert not OutboxMessage.objects.exists()
