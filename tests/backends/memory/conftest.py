import uuid

import pytest

from faststream_django.backends.memory.server import MemoryServer


@pytest.fixture
def server():
    return MemoryServer()


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"
