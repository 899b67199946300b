from django.db import models


class Order(models.Model):
    number = models.IntegerField()
    note = models.CharField(max_length=100, blank=True)

    def __str__(self):
        return f"order {self.number}"
