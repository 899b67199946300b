"""Databases of several engines within one run of the tests."""

import contextlib
from typing import Any

from .nodes import MariaDBServer

DATABASES = ("default", "other")
ENGINES = ("postgresql", "mariadb", "sqlite")


def mariadb_database(name: str, port: str) -> dict[str, Any]:
    """Return the entry of settings.DATABASES for a database of a private MariaDB server."""
    # Pure Python, unlike mysqlclient, of which PyPI has no wheels for Linux; Django accepts it, because it
    # says that it is a recent mysqlclient.
    import pymysql

    pymysql.install_as_MySQLdb()
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": name,
        "HOST": "127.0.0.1",
        "PORT": port,
        "USER": "root",
    }


def make_mariadb_database(server: MariaDBServer, alias: str) -> dict[str, Any]:
    """Create a database that only the tests of this process use."""
    server.execute(f"CREATE DATABASE mariadb_{alias}")
    return mariadb_database(f"mariadb_{alias}", str(server.port))


def sqlite_database(path) -> dict[str, Any]:
    """Return the entry for a file, as docs/how-to/outbox.md advises for several processes."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }


def skip_database_in_memory() -> None:
    """Skip a test that closes connections, in threads or itself: Django keeps such a database open."""
    import pytest
    from django.db import connection

    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
        pytest.skip("SQLite's test database is in memory.")


def migrated(databases: dict[str, Any]) -> dict[str, Any]:
    """Make the tables, and return the databases."""
    from django.core.management import call_command

    with swapped(databases):
        for alias in databases:
            call_command("migrate", database=alias, verbosity=0)
    return databases


@contextlib.contextmanager
def swapped(databases: dict[str, Any]):
    """Have the aliases lead to these databases, in all threads that look from now on."""
    from asgiref.local import Local
    from django.contrib.contenttypes.models import ContentType
    from django.db import connections

    before, connections_before = dict(connections.settings), connections._connections
    connections.settings.update(databases)  # which is settings.DATABASES
    connections.configure_settings(connections.settings)  # the defaults of each entry
    connections._connections = Local(connections.thread_critical)
    ContentType.objects.clear_cache()
    try:
        yield
    finally:
        connections.close_all()
        connections._connections = connections_before
        connections.settings.update(before)
        ContentType.objects.clear_cache()
