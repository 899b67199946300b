import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0002_catalogue")]

    operations = [
        migrations.CreateModel(
            name="Supply",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "product",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="shop.product"),
                ),
                ("failures", models.PositiveSmallIntegerField(null=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("is_delivered", models.BooleanField(default=False)),
                ("asked_at", models.DateTimeField(null=True)),
                ("waited", models.FloatField(null=True)),
            ],
        )
    ]
