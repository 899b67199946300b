from django.db import migrations, models

import faststream_django.outbox.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Lease",
            fields=[
                (
                    "broker",
                    models.CharField(
                        max_length=255, primary_key=True, serialize=False, verbose_name="broker"
                    ),
                ),
                ("holder", models.CharField(blank=True, default="", max_length=255, verbose_name="holder")),
                (
                    "expires_at",
                    faststream_django.outbox.fields.MomentField(default=0.0, verbose_name="expires at"),
                ),
                ("seen_at", faststream_django.outbox.fields.MomentField(default=0.0, verbose_name="seen at")),
            ],
            options={
                "verbose_name": "relay",
                "verbose_name_plural": "relays",
                "db_table": "faststream_outbox_lease",
            },
        ),
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("broker", models.CharField(max_length=255, verbose_name="broker")),
                (
                    "state",
                    models.SmallIntegerField(
                        choices=[
                            (0, "ready"),
                            (1, "waiting"),
                            (2, "waiting (first of its key)"),
                            (3, "dead"),
                            (4, "dead, holds its key"),
                        ],
                        default=0,
                        verbose_name="state",
                    ),
                ),
                (
                    "due",
                    faststream_django.outbox.fields.MomentField(blank=True, null=True, verbose_name="due"),
                ),
                (
                    "ordering_key",
                    models.CharField(blank=True, default="", max_length=255, verbose_name="ordering key"),
                ),
                ("message_id", models.CharField(max_length=255, verbose_name="message id")),
                (
                    "exchange",
                    models.CharField(blank=True, default="", max_length=127, verbose_name="exchange"),
                ),
                (
                    "routing_key",
                    models.CharField(
                        blank=True, default="", max_length=255, verbose_name="queue or routing key"
                    ),
                ),
                ("body", models.BinaryField(verbose_name="body")),
                ("properties", models.TextField(verbose_name="properties")),
                (
                    "expires_at",
                    faststream_django.outbox.fields.MomentField(
                        blank=True, null=True, verbose_name="expires at"
                    ),
                ),
                ("created_at", faststream_django.outbox.fields.MomentField(verbose_name="created at")),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                ("last_error", models.TextField(blank=True, default="", verbose_name="last error")),
            ],
            options={
                "verbose_name": "outbox message",
                "verbose_name_plural": "outbox messages",
                "db_table": "faststream_outbox",
                "ordering": ["id"],
                "permissions": [("view_body", "Can view the bodies and headers of outbox messages")],
                "indexes": [
                    models.Index(fields=["broker", "state", "id"], name="faststream_outbox_by_id"),
                    models.Index(fields=["broker", "state", "due"], name="faststream_outbox_by_due"),
                    models.Index(
                        fields=["message_id"],
                        name="faststream_outbox_by_msg",
                        opclasses=["varchar_pattern_ops"],
                    ),
                ],
            },
        ),
    ]
