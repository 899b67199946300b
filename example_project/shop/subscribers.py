"""FastStream subscribers. This module is found because of its name, in every installed app.

On memory:// they run in the process that publishes, on RabbitMQ in `manage.py faststream_worker`.
"""

from django.db import transaction
from django.utils import timezone
from faststream.rabbit import RabbitMessage, RabbitRouter

from .events import Newsletter, OrderPlaced, StockChanged
from .models import Activity, Order, Product

LOW, FULL = 5, 20

router = RabbitRouter()


@router.subscriber("orders.placed")
def handle_order(event: OrderPlaced, message: RabbitMessage) -> None:
    """A plain function runs in a thread, where the ORM is at home.

    A message can come twice: the second one finds no order that is merely placed.
    """
    Activity.objects.create(**_arrived("orders.placed", message))
    placed = Order.objects.filter(pk=event.order, status=Order.Status.PLACED)
    placed.update(status=Order.Status.HANDLED, handled_at=timezone.now())


@router.subscriber("stock")
def restock(event: StockChanged, message: RabbitMessage) -> None:
    """The queue is bound to the topic exchange in settings.py."""
    Activity.objects.create(**_arrived("stock", message))
    if event.stock >= LOW:
        return
    with transaction.atomic():
        product = Product.objects.select_for_update().get(name=event.product)
        product.stock = FULL
        product.save(update_fields=["stock"])  # its signal publishes from here, too


@router.subscriber("newsletters")
async def send_newsletter(event: Newsletter, message: RabbitMessage) -> None:
    """A coroutine function runs on the event loop and uses Django's asynchronous ORM."""
    await Activity.objects.acreate(**_arrived("newsletters", message))


def _arrived(queue, message):
    return {
        "kind": Activity.Kind.ARRIVED,
        "destination": queue,
        "detail": message.body.decode(),
        "message_id": message.message_id,
    }
