import pytest

from faststream_django.testing import capture_messages


@pytest.fixture
def messages():
    with capture_messages() as messages:
        yield messages
