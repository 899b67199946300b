"""Waits for what another thread does to the tables."""

from faststream_django.outbox.models import OutboxMessage
from tests.waiting import SOON, wait_until

__all__ = ["SOON", "wait_for_no_rows", "wait_until"]


def wait_for_no_rows(using="default"):
    wait_until(lambda: not OutboxMessage.objects.using(using).exists(), "the deletion of the rows")
