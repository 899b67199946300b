"""tests.settings with one database, one broker, and handlers: CRASH_DATABASE and CRASH_URL say where."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.inbox.crash.shop"]
DATABASES = {"default": {**DATABASES["default"], "NAME": os.environ["CRASH_DATABASE"], "CONN_MAX_AGE": 60}}
FASTSTREAM = {
    "default": {
        "URL": os.environ["CRASH_URL"],
        "SHUTDOWN_TIMEOUT": 20.0,
        "WORKER": {"ATTEMPTS": 1000, "BACKOFF": (0.05, 0.2)},
    }
}
LOGGING = {
    "version": 1,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
