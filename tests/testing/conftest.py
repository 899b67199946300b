import pytest

from faststream_django.testing import capture_messages


@pytest.fixture(autouse=True)
def _no_broker(settings, counting_port):
    """Whatever were sent would be sent to a port that counts."""
    settings.FASTSTREAM = {
        "default": {"URL": counting_port.url},
        "other": {"URL": counting_port.url, "MAX_MESSAGE_BYTES": 10},
    }
    yield
    assert counting_port.count == 0


@pytest.fixture
def messages():
    with capture_messages() as messages:
        yield messages
