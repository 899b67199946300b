"""For every project that has this package installed: the guard of a test run, a fixture, a marker.

pytest imports this module in every project of the environment, before it measures coverage.
So it imports nothing but pytest until a test asks for something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from faststream_django import guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faststream_django.testing.capturing import real_brokers
    from faststream_django.testing.messages import CapturedMessages

_block: pytest.StashKey[real_brokers] = pytest.StashKey()


@pytest.fixture
def captured_messages() -> Iterator[CapturedMessages]:
    """Catch what the test publishes; see faststream_django.testing.capture_messages()."""
    from faststream_django.testing.capturing import capture_messages

    with capture_messages() as messages:
        yield messages


@pytest.hookimpl(tryfirst=True)  # before pytest-django sets Django up and the apps are ready
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    guard.pytest_runs.add(id(early_config))


def pytest_configure(config: pytest.Config) -> None:
    guard.pytest_runs.add(id(config))  # a plugin that a conftest.py names has missed the hook above
    config.addinivalue_line(
        "markers",
        "real_broker(*aliases): publish for real, to these brokers of settings.FASTSTREAM or to all; "
        "otherwise what tests publish is checked and forgotten.",
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    guard.pytest_runs.discard(id(config))


@pytest.hookimpl(tryfirst=True)  # before the fixtures are set up
def pytest_runtest_setup(item: pytest.Item) -> None:
    if marker := item.get_closest_marker("real_broker"):
        from faststream_django.testing.capturing import real_brokers

        block = real_brokers(*marker.args)
        block.__enter__()
        item.stash[_block] = block


@pytest.hookimpl(tryfirst=True)  # before the test database is flushed
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if block := item.stash.get(_block, None):
        del item.stash[_block]
        block.__exit__()
