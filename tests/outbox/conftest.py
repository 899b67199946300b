import uuid
from functools import partial

import pytest
from django.db import connection

from faststream_django import brokers
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.loop.backlog import Limits
from faststream_django.outbox.eager import Eager
from faststream_django.outbox.resting import resting
from faststream_django.outbox.writing import store_with
from faststream_django.publishing import durable
from tests.outbox.waiting import SOON


@pytest.fixture
def outbox(settings):
    """Store on-commit messages for the embedded broker; return its server."""
    url = f"memory://{uuid.uuid4().hex}"

    def configure(**entry):
        settings.FASTSTREAM = {
            "default": {
                "URL": url,
                "QUEUES": {"orders": {"arguments": {"x-max-length": 100_000}}},
                "ON_COMMIT": "outbox",
                **entry,
            }
        }
        return MemoryServer.get(url)

    configure.server = configure()
    yield configure
    brokers.stop(1)


@pytest.fixture
def eager(outbox, monkeypatch):
    """Have the thread send, as it does where no tests run; a function that starts one with other limits."""
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        pytest.skip("SQLite's test database is in memory. See tests/processes/test_outbox.py for files.")
    outbox(OUTBOX={"GRACE": 30.0})  # more than a busy machine needs to import the driver
    made = []

    def start(**limits):
        made.append(Eager(Limits(**limits)))

        def hand_over(stored, robust):
            made[-1].put(stored)

        monkeypatch.setattr(durable, "_store", partial(store_with, hand_over))
        return made[-1]

    start()
    yield start
    for each in made:
        each.stop(SOON)
    resting.clear()
