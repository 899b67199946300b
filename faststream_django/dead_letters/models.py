"""What Django asks a model for: permissions, and a place in the admin and in its log. There is no table."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

__all__ = ["DeadLetter"]


class DeadLetter(models.Model):
    """A message in the dead letters of a queue; nothing of it is in the database."""

    id = models.CharField("message id", max_length=255, primary_key=True)

    class Meta:
        managed = False
        verbose_name = "dead letter"
        verbose_name_plural = "dead letters"
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("replay_deadletter", "Can replay dead letters"),
            ("discard_deadletter", "Can discard dead letters"),
            ("view_body", "Can view the bodies and headers of dead letters"),
        ]

    def __str__(self) -> str:
        return self.id
