"""A Django site in one process: a database, in memory unless told otherwise, and a broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings

__all__ = ["configure", "database_settings", "make_tables"]


def configure(
    url: str,
    *,
    database: str = "",
    apps: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Configure Django, the broker with these options; a second call changes nothing.

    `database` is the URL of one of PostgreSQL; the tables of the apps are made there.
    """
    if settings.configured:
        return
    settings.configure(
        INSTALLED_APPS=["faststream_django", *apps],
        DATABASES={"default": database_settings(database)},
        FASTSTREAM={"default": {"URL": url, **options}},
        USE_TZ=True,
        **(more or {}),
    )
    django.setup()


def make_tables() -> None:
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


def database_settings(url: str) -> dict[str, Any]:
    """Return the database of this URL, or one in memory, as Django's settings have it."""
    if not url:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    address = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": address.path.strip("/"),
        "USER": address.username,
        "HOST": address.hostname,
        "PORT": address.port,
        # As the sites that care do: some of the contenders close old connections after each batch.
        "CONN_MAX_AGE": 600,
    }
