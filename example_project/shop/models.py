import os

from django.db import models
from django.utils import timezone


class Product(models.Model):
    name = models.CharField(max_length=40, unique=True)
    # Below zero when more was ordered than there is: the subscriber in subscribers.py restocks.
    stock = models.IntegerField()

    def __str__(self):
        return self.name


class OrderManager(models.Manager):
    def place(self, product, quantity):
        """Take the goods out of stock and return the order. Call it inside a transaction."""
        product = Product.objects.select_for_update().get(pk=product.pk)
        product.stock -= quantity
        product.save(update_fields=["stock"])
        return self.create(product=product, quantity=quantity)


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        HANDLED = "handled"

    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=10, choices=Status, default=Status.PLACED)
    created_at = models.DateTimeField(auto_now_add=True)
    handled_at = models.DateTimeField(null=True)

    objects = OrderManager()

    def __str__(self):
        return f"Order {self.pk} ({self.quantity} x {self.product})"


class SupplierSilent(Exception):
    pass


class Supply(models.Model):
    """Goods that the shop asks its supplier for, and how often it has asked."""

    ATTEMPTS = 4

    product = models.ForeignKey(Product, models.PROTECT)
    # How often the supplier does not answer; None: as long as nobody talks to it.
    failures = models.PositiveSmallIntegerField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    is_delivered = models.BooleanField(default=False)
    asked_at = models.DateTimeField(null=True)
    # Seconds between the last two attempts.
    waited = models.FloatField(null=True)

    def __str__(self):
        return f"Supply {self.pk} of {self.product}"

    @property
    def status(self):
        if self.is_delivered:
            return "delivered"
        return "dead letter" if self.attempts >= self.ATTEMPTS else "asked"

    def ask(self):
        """Ask the supplier once; raise SupplierSilent if it does not answer."""
        now = timezone.now()
        self.waited = self.asked_at and (now - self.asked_at).total_seconds()
        self.attempts, self.asked_at = self.attempts + 1, now
        self.is_delivered = self.failures is not None and self.attempts > self.failures
        self.save()
        if not self.is_delivered:
            raise SupplierSilent(f"the supplier does not answer (attempt {self.attempts})")


class Activity(models.Model):
    """One line of the live list: what happened to a message, and in which process.

    It is a table because the web process and the worker share nothing but the database.
    """

    KEPT = 200

    class Kind(models.TextChoices):
        PUBLISHED = "published"
        ARRIVED = "arrived"
        FAILED = "failed"
        ROLLED_BACK = "rolled back"

    kind = models.CharField(max_length=12, choices=Kind)
    destination = models.CharField(max_length=100)
    detail = models.TextField()
    message_id = models.CharField(max_length=128, blank=True)
    process = models.PositiveIntegerField()
    happened_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["-happened_at"])]

    def __str__(self):
        return f"{self.kind} {self.destination}"

    def save(self, **kwargs):
        self.process = os.getpid()
        super().save(**kwargs)
        Activity.objects.filter(pk__lte=self.pk - self.KEPT).delete()
