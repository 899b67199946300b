"""Notes that pytest runs in this process: there nothing leaves it unless a test asks for it."""

from __future__ import annotations

__all__ = ["pytest_runs"]

pytest_runs: set[int] = set()
"""The runs of pytest that are under way, from before Django's setup to the end; kept by our plugin."""
