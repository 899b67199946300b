from django.db import migrations


def add_products(apps, schema_editor):
    Product = apps.get_model("shop", "Product")
    for name in ["Green tea", "Teapot", "Honey"]:
        Product.objects.create(name=name, stock=20)


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(add_products, migrations.RunPython.noop)]
