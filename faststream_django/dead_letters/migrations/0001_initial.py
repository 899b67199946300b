"""The model without a table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Make the model known, for its permissions."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                (
                    "id",
                    models.CharField(
                        max_length=255, primary_key=True, serialize=False, verbose_name="message id"
                    ),
                ),
            ],
            options={
                "verbose_name": "dead letter",
                "verbose_name_plural": "dead letters",
                "permissions": [
                    ("replay_deadletter", "Can replay dead letters"),
                    ("discard_deadletter", "Can discard dead letters"),
                    ("view_body", "Can view the bodies and headers of dead letters"),
                ],
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
