"""Django settings of the tests, and of the programs that they start.

TEST_DATABASE is postgresql, mariadb or sqlite; left out, PostgreSQL where it is installed. conftest.py
starts the server when the first test asks for a database. TEST_FASTSTREAM_URL is the broker of
the programs that the tests start.
"""

import os

from tests.engines import mariadb_database
from tests.nodes import PostgreSQLCluster, free_port

DATABASE = os.environ.get("TEST_DATABASE") or ("postgresql" if PostgreSQLCluster.is_installed() else "sqlite")
# Chosen here and kept in the environment: a program that a test starts finds the same cluster. Each worker
# of pytest-xdist inherits the environment of the first process, and has a cluster of its own.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
POSTGRESQL_PORT = os.environ.setdefault(f"TEST_POSTGRESQL_PORT_{_worker}", str(free_port()))
MARIADB_PORT = os.environ.setdefault(f"TEST_MARIADB_PORT_{_worker}", str(free_port()))


def _database(alias):
    if DATABASE == "mariadb":
        return mariadb_database(alias, MARIADB_PORT)
    if DATABASE == "postgresql":
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": alias,
            "HOST": "127.0.0.1",
            "PORT": POSTGRESQL_PORT,
            "USER": "postgres",
        }
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{alias}.sqlite3"}


SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "faststream_django",
    "faststream_django.outbox",
    "faststream_django.inbox",
    "faststream_django.dead_letters",
    "tests.test_app",
]
DATABASES = {"default": _database("default"), "other": _database("other")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "tests.test_app.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# Only the tests of the admin have the middleware that it needs.
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]
STATIC_URL = "static/"
WSGI_APPLICATION = "tests.test_app.wsgi.application"
FASTSTREAM = {"default": {"URL": os.environ.get("TEST_FASTSTREAM_URL", "memory://")}}
