"""A Django site in one process: a database in memory, and a broker."""

from __future__ import annotations

import django
from django.conf import settings

__all__ = ["configure"]


def configure(url: str) -> None:
    """Configure Django; a second call changes nothing."""
    if settings.configured:
        return
    settings.configure(
        INSTALLED_APPS=["faststream_django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        FASTSTREAM={"default": {"URL": url}},
    )
    django.setup()
