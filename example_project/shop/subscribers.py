"""FastStream subscribers. This module is found because of its name, in every installed app.

On memory:// they run in the process that publishes, on RabbitMQ in `manage.py faststream_worker`.
"""

from django.db import transaction
from django.utils import timezone
from faststream.rabbit import RabbitMessage, RabbitRouter

from faststream_django.inbox import idempotent
from faststream_django.worker import retry

from .events import Newsletter, OrderPlaced, StockChanged, SupplyWanted
from .models import Activity, Order, Product, SupplierSilent, Supply

LOW, FULL = 5, 20

router = RabbitRouter()


# A plain function runs in a thread, where the ORM is at home. A message can come twice; its id is noted
# in the transaction of the handler, and the second one is acknowledged without it.
@router.subscriber("orders.placed")
@idempotent
def handle_order(event: OrderPlaced, message: RabbitMessage) -> None:
    placed = Order.objects.filter(pk=event.order, status=Order.Status.PLACED)
    placed.update(status=Order.Status.HANDLED, handled_at=timezone.now())
    Activity.objects.create(**arrival("orders.placed", message))


# settings.py binds this queue to the topic exchange "events".
@router.subscriber("stock")
def restock(event: StockChanged, message: RabbitMessage) -> None:
    Activity.objects.create(**arrival("stock", message))
    if event.stock < LOW:
        refill(event.product)


# A failing message waits in a queue of the broker for its next attempt, longer each time, while others
# are handled. After the last attempt it is a dead letter, in the queue supplies.dlq.
@router.subscriber("supplies")
@retry(attempts=4, backoff=(0.5, 4), on=(SupplierSilent,))
def ask_supplier(event: SupplyWanted, message: RabbitMessage) -> None:
    Activity.objects.create(**arrival("supplies", message))
    supply = Supply.objects.select_related("product").get(pk=event.supply)
    supply.ask()  # raises SupplierSilent
    refill(supply.product.name, always=True)


# A coroutine function runs on the event loop, with Django's asynchronous ORM.
@router.subscriber("newsletters")
async def send_newsletter(event: Newsletter, message: RabbitMessage) -> None:
    await Activity.objects.acreate(**arrival("newsletters", message))


@transaction.atomic
def refill(name, *, always=False):
    product = Product.objects.select_for_update().get(name=name)
    if always or product.stock < LOW:  # else an earlier message has seen to it
        product.stock = FULL
        product.save(update_fields=["stock"])  # the signal publishes from here, too


def arrival(queue, message):
    return {
        "kind": Activity.Kind.ARRIVED,
        "destination": queue,
        "detail": message.body.decode(),
        "message_id": message.message_id,
    }
