"""The Django site of the workers that have one."""

from __future__ import annotations

from typing import Any

from benchmarks.consuming.assignment import assignment
from benchmarks.django_site import database_settings

_told = assignment()

INSTALLED_APPS = ["faststream_django", "benchmarks.orders", "benchmarks.consuming"]
USE_TZ = True
# A connection is kept, as sites do that care. A commit does not wait for the disk: it would set the pace.
DATABASES = {
    "default": {
        **database_settings(_told.database),
        "CONN_MAX_AGE": 60,
        "OPTIONS": {"options": "-c synchronous_commit=off"} if _told.database else {},
    }
}
FASTSTREAM: dict[str, Any] = {
    "default": {
        "URL": _told.amqp,
        "HEARTBEAT": 600,  # it is stopped between the rounds
        "WORKER": {"CONCURRENCY": _told.at_once},
    }
}
