"""The table: what was handled, and when."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from faststream_django.inbox.fields import DigestField
from faststream_django.outbox.fields import MomentField

__all__ = ["HandledMessage"]


class HandledMessage(models.Model):
    """A message that a consumer has handled."""

    digest = DigestField("digest of consumer and message id", primary_key=True)
    handled_at = MomentField("handled at")

    class Meta:
        db_table = "faststream_inbox"
        verbose_name = "handled message"
        verbose_name_plural = "handled messages"
        indexes: ClassVar = [models.Index(fields=["handled_at"], name="faststream_inbox_by_time")]

    def __str__(self) -> str:
        return str(self.digest.hex())
