"""Waits for what another thread does to the tables."""

import time

from faststream_django.outbox.models import OutboxMessage

SOON = 30.0


def wait_until(condition, what="what is waited for"):
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not come"
        time.sleep(0.002)


def wait_for_no_rows(using="default"):
    wait_until(lambda: not OutboxMessage.objects.using(using).exists(), "the deletion of the rows")
