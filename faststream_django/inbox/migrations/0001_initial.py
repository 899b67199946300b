from django.db import migrations, models

import faststream_django.inbox.fields
import faststream_django.outbox.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="HandledMessage",
            fields=[
                (
                    "digest",
                    faststream_django.inbox.fields.DigestField(
                        primary_key=True,
                        serialize=False,
                        verbose_name="digest of consumer and message id",
                    ),
                ),
                ("handled_at", faststream_django.outbox.fields.MomentField(verbose_name="handled at")),
            ],
            options={
                "verbose_name": "handled message",
                "verbose_name_plural": "handled messages",
                "db_table": "faststream_inbox",
                "indexes": [models.Index(fields=["handled_at"], name="faststream_inbox_by_time")],
            },
        ),
    ]
