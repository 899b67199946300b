"""The fixture ``captured_messages``, in every project that has this package installed.

pytest imports this module in every project of the environment, before it measures coverage.
So it imports nothing but pytest until a test asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faststream_django.testing import CapturedMessages


@pytest.fixture
def captured_messages() -> Iterator[CapturedMessages]:
    """Catch what the test publishes; see faststream_django.testing.capture_messages()."""
    from faststream_django.testing import capture_messages

    with capture_messages() as messages:
        yield messages
