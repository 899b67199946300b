"""Notes that tests run in this process: there nothing leaves it unless a test asks for it."""

from __future__ import annotations

from sys import modules

__all__ = ["pytest_runs", "runs_tests"]

pytest_runs: set[int] = set()
"""The runs of pytest that are under way, from before Django's setup to the end; kept by our plugin."""


def runs_tests() -> bool:
    """Tell whether tests run in this process; cheap enough to be asked for every message."""
    # What Django itself goes by. pytest-django and `manage.py test` call setup_test_environment(), before
    # they migrate and in every parallel worker, forked or spawned; there is no public way to ask.
    return bool(pytest_runs) or (
        "django.test.utils" in modules
        and hasattr(getattr(modules["django.test.utils"], "_TestState", None), "saved_data")
    )
