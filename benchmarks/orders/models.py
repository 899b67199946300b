from __future__ import annotations

from django.db import models


class Order(models.Model):
    """The row of its own that a transaction writes."""

    item = models.CharField(max_length=100)
    quantity = models.IntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.item
