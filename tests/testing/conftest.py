import pytest

from faststream_django.testing import capture_messages


@pytest.fixture(autouse=True)
def _no_broker(no_broker):
    """Nothing is to be sent."""


@pytest.fixture
def messages():
    with capture_messages() as messages:
        yield messages
