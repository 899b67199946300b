"""Receivers: a model that publishes when it is saved, and the live list of the page."""

from django.db.models.signals import post_save
from django.dispatch import receiver

from faststream_django import publish_on_commit
from faststream_django.signals import message_failed, message_published

from .events import StockChanged
from .models import Activity, Product


@receiver(post_save, sender=Product)
def announce_stock(instance, **kwargs):
    """Whoever saves a product, in whichever process: the world learns of it after the commit."""
    event = StockChanged(product=instance.name, stock=instance.stock)
    publish_on_commit(event, exchange="events", routing_key="stock.changed")


@receiver(message_published)
def log_published(message, **kwargs):
    Activity.objects.create(
        kind=Activity.Kind.PUBLISHED,
        destination=_destination(message),
        detail=message.body.decode(),
        message_id=message.message_id,
        # The moment of the call. A fast subscriber may be done before this line runs.
        happened_at=message.timestamp,
    )


@receiver(message_failed)
def log_failed(message, error, **kwargs):
    Activity.objects.create(
        kind=Activity.Kind.FAILED,
        destination=_destination(message),
        detail=f"{type(error).__name__}: {error}",
        message_id=message.message_id,
    )


def _destination(message):
    return f"{message.exchange} / {message.routing_key}" if message.exchange else message.routing_key
