import uuid

import pytest

from faststream_django import brokers
from faststream_django.backends.memory.server import MemoryServer


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
