"""Digests as the engines keep them in the least room."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["DigestField", "for_driver"]

_TYPES = {"postgresql": "uuid", "mysql": "binary(16)", "sqlite": "blob"}


class DigestField(models.Field):  # type: ignore[type-arg]
    """16 bytes.

    A BinaryField cannot be a key on MySQL, and a UUIDField takes 32 characters there and on SQLite.
    """

    description = "Digest"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        # The inbox refuses any other engine, but its tables may be made there.
        return _TYPES.get(connection.vendor) or str(connection.data_types["UUIDField"])

    def get_db_prep_value(
        self,
        value: bytes,
        connection: BaseDatabaseWrapper,
        prepared: bool = False,  # noqa: ARG002, FBT001, FBT002
    ) -> Any:
        return for_driver(value, connection.vendor)

    def from_db_value(self, value: Any, *args: Any) -> bytes:  # noqa: ARG002
        return value.bytes if isinstance(value, uuid.UUID) else bytes(value)


def for_driver(digest: bytes, vendor: str) -> uuid.UUID | bytes:
    """Return what an engine's driver is given for a digest."""
    return uuid.UUID(bytes=digest) if vendor == "postgresql" else digest
