"""Moments as the database counts them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import models

__all__ = ["MomentField"]


class MomentField(models.FloatField):  # type: ignore[type-arg]
    """An aware datetime, stored as seconds since the epoch.

    So the clock of the database can be compared and added to in the same SQL on every engine, whatever
    USE_TZ and the time zone of the connection are.
    """

    description = "Moment"

    def from_db_value(self, value: float | None, *args: Any) -> datetime | None:  # noqa: ARG002
        return None if value is None else datetime.fromtimestamp(value, UTC)

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, datetime):
            return value
        return datetime.fromtimestamp(float(value), UTC)

    def get_prep_value(self, value: Any) -> Any:
        return value.timestamp() if isinstance(value, datetime) else super().get_prep_value(value)
