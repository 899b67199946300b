"""A Django site in one process: a database in memory, and a broker."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

__all__ = ["configure"]


def configure(url: str, **options: Any) -> None:
    """Configure Django, the broker with these options; a second call changes nothing."""
    if settings.configured:
        return
    settings.configure(
        INSTALLED_APPS=["faststream_django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        FASTSTREAM={"default": {"URL": url, **options}},
    )
    django.setup()
