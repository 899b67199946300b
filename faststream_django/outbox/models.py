"""The two tables: the messages that wait, and which relay leads."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from faststream_django.outbox.fields import MomentField

__all__ = ["Lease", "OutboxMessage", "State"]


class State(models.IntegerChoices):
    """What a row waits for. The index orders by these numbers, and each query reads one range of it."""

    READY = 0, "ready"
    """For the relay, which reads these by id."""
    WAITING = 1, "waiting"
    """For its moment: the process that committed it sends it before, or it is delayed, or backs off."""
    RETRYING = 2, "waiting (first of its key)"
    """For its next attempt; the later messages of its ordering key wait for it."""
    DEAD = 3, "dead"
    """For somebody who retries or discards it."""
    HOLDING = 4, "dead, holds its key"
    """As DEAD; and so do the later messages of its ordering key."""


class OutboxMessage(models.Model):
    """A message that the broker has not confirmed yet. Confirmed ones are deleted."""

    id = models.BigAutoField(primary_key=True)
    broker = models.CharField("broker", max_length=255)
    state = models.SmallIntegerField("state", choices=State.choices, default=State.READY)
    due = MomentField("due", null=True, blank=True)
    ordering_key = models.CharField("ordering key", max_length=255, default="", blank=True)
    message_id = models.CharField("message id", max_length=255)
    exchange = models.CharField("exchange", max_length=127, default="", blank=True)
    routing_key = models.CharField("queue or routing key", max_length=255, default="", blank=True)
    body = models.BinaryField("body")
    properties = models.TextField("properties")
    expires_at = MomentField("expires at", null=True, blank=True)
    created_at = MomentField("created at")
    attempts = models.PositiveIntegerField("attempts", default=0)
    last_error = models.TextField("last error", default="", blank=True)

    class Meta:
        db_table = "faststream_outbox"
        verbose_name = "outbox message"
        verbose_name_plural = "outbox messages"
        ordering: ClassVar = ["id"]
        # Whole ones on every engine: MySQL and MariaDB have no partial indexes.
        indexes: ClassVar = [
            models.Index(fields=["broker", "state", "id"], name="faststream_outbox_by_id"),
            models.Index(fields=["broker", "state", "due"], name="faststream_outbox_by_due"),
            # 130 bytes of WAL a message, so that operators find one among millions by how its id begins.
            models.Index(
                fields=["message_id"], name="faststream_outbox_by_msg", opclasses=["varchar_pattern_ops"]
            ),
        ]
        permissions: ClassVar = [("view_body", "Can view the bodies and headers of outbox messages")]

    def __str__(self) -> str:
        return self.message_id


class Lease(models.Model):
    """Which relay sends the messages of one broker from this database, and until when it may."""

    broker = models.CharField("broker", max_length=255, primary_key=True)
    holder = models.CharField("holder", max_length=255, default="", blank=True)
    expires_at = MomentField("expires at", default=0.0)
    seen_at = MomentField("seen at", default=0.0)

    class Meta:
        db_table = "faststream_outbox_lease"
        verbose_name = "relay"
        verbose_name_plural = "relays"

    def __str__(self) -> str:
        return self.broker
