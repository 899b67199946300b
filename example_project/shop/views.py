from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from faststream_django import apublish, publish, publish_on_commit
from faststream_django.backends.memory import MemoryServer
from faststream_django.dead_letters import replay
from faststream_django.exceptions import PublishError
from faststream_django.outbox.models import OutboxMessage, State

from .events import Newsletter, OrderPlaced, SupplyWanted
from .forms import OrderForm
from .models import Activity, Order, Product, Supply

SHOWN_ORDERS, SHOWN_SUPPLIES, SHOWN_ACTIVITIES, SHOWN_ROWS = 5, 4, 50, 6


class CardDeclined(Exception):
    pass


def charge_card(order):
    raise CardDeclined(f"{order}: the card was declined")


@require_GET
def index(request):
    return _page(request, OrderForm())


@require_POST
def place_order(request):
    form = OrderForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    product, quantity = form.cleaned_data["product"], form.cleaned_data["quantity"]
    with transaction.atomic():
        order = Order.objects.place(product, quantity)
        publish_on_commit(OrderPlaced(order=order.pk), "orders.placed")
    messages.success(request, f"{order} is placed.")
    return redirect("index")


@require_POST
def decline_order(request):
    product = Product.objects.earliest("pk")
    try:
        with transaction.atomic():
            order = Order.objects.place(product, 1)
            publish_on_commit(OrderPlaced(order=order.pk), "orders.placed")
            charge_card(order)  # raises CardDeclined
    except CardDeclined as error:
        Activity.objects.create(
            kind=Activity.Kind.ROLLED_BACK,
            destination="orders.placed",
            detail=f"{error}, nothing was published",
        )
    messages.warning(request, "The card was declined: no order, no message, and the stock is as it was.")
    return redirect("index")


@require_POST
async def send_newsletter(request):
    try:
        message_id = await apublish(Newsletter(subject="Fresh tea"), "newsletters")
    except PublishError as error:
        messages.error(request, f"{type(error).__name__}: {error}")
    else:
        messages.success(request, f"The broker has confirmed message {message_id}.")
    return redirect("index")


@require_POST
def publish_to_nowhere(request):
    try:
        publish({"hello": "anybody there?"}, "no.such.queue")
    except PublishError as error:
        messages.error(request, f"{type(error).__name__}: {error}")
    return redirect("index")


@require_POST
def leave_for_nobody(request):
    publish_on_commit({"hello": "anybody there?"}, "no.such.queue")
    messages.warning(
        request, "The message is in the outbox. Nobody takes it, so it is dead after three attempts."
    )
    return redirect("index")


@require_POST
def want_supply(request):
    """Ask the supplier, who does not answer twice, or as long as nobody has talked to it."""
    failures = 2 if request.POST.get("supplier") == "fails-twice" else None
    with transaction.atomic():
        supply = Supply.objects.create(product=Product.objects.earliest("pk"), failures=failures)
        publish_on_commit(SupplyWanted(supply=supply.pk), "supplies")
    messages.success(request, f"{supply} is wanted. The list shows each attempt.")
    return redirect("index")


@require_POST
def replay_supplies(request):
    """Talk to the supplier, and have the dead letters handled again."""
    Supply.objects.filter(is_delivered=False, attempts=Supply.ATTEMPTS).update(failures=0, attempts=0)
    outcome = replay("supplies", limit=100)
    if outcome.problem:
        messages.error(request, f"Replayed {outcome.done}: {outcome.problem}")
    else:
        messages.success(request, f"Replayed {outcome.done} of {outcome.count} dead letters.")
    return redirect("index")


@require_POST
def switch_broker(request):
    """Take the embedded broker away, or bring it back."""
    broker = MemoryServer.get(settings.FASTSTREAM["default"]["URL"])
    if broker.is_stopped:
        broker.start()
        messages.success(request, "The broker is back: what waits in the outbox leaves now.")
    else:
        broker.stop()
        messages.warning(request, "The broker is away. Place an order: its message waits in the outbox.")
    return redirect("index")


@require_GET
def live(request):
    """What the page asks for every second."""
    return JsonResponse(_news())


def _page(request, form, status=200):
    products = list(Product.objects.order_by("pk"))
    context = {
        "form": form,
        "products": products,
        "chosen": str(form["product"].value() or products[0].pk),
        "news": _news(),
        "broker": _broker(),
    }
    return render(request, "shop/index.html", context, status=status)


def _news():
    orders = Order.objects.select_related("product").order_by("-pk")[:SHOWN_ORDERS]
    activities = Activity.objects.order_by("-happened_at", "-pk")[:SHOWN_ACTIVITIES]
    rows = OutboxMessage.objects.order_by("-pk")
    supplies = Supply.objects.select_related("product").order_by("-pk")[:SHOWN_SUPPLIES]
    return {
        "broker": "away" if _is_away() else "there",
        "outbox": {
            "waiting": rows.filter(state__lt=State.DEAD).count(),
            "sent": Activity.objects.filter(kind=Activity.Kind.PUBLISHED).count(),
            "dead": rows.filter(state__gte=State.DEAD).count(),
            "rows": [
                {
                    "destination": row.exchange or row.routing_key,
                    "state": "dead" if row.state >= State.DEAD else "waiting",
                    "attempts": row.attempts,
                }
                for row in rows[:SHOWN_ROWS]
            ],
        },
        "stock": {product.pk: product.stock for product in Product.objects.all()},
        "orders": [
            {
                "number": order.pk,
                "product": order.product.name,
                "quantity": order.quantity,
                "status": order.status,
                "seconds": order.handled_at and (order.handled_at - order.created_at).total_seconds(),
            }
            for order in orders
        ],
        "supplies": [
            {
                "number": supply.pk,
                "product": supply.product.name,
                "attempts": supply.attempts,
                "most": Supply.ATTEMPTS,
                "waited": supply.waited,
                "status": supply.status,
            }
            for supply in supplies
        ],
        "activities": [
            {
                "id": activity.pk,
                "kind": activity.kind,
                "destination": activity.destination,
                "detail": activity.detail,
                "message_id": activity.message_id,
                "process": activity.process,
                "happened_at": activity.happened_at.isoformat(),
            }
            for activity in activities
        ],
    }


def _broker():
    """Describe the broker without its URL, which holds a password."""
    url = urlsplit(settings.FASTSTREAM["default"]["URL"])
    return "memory://" if url.scheme == "memory" else url.hostname


def _is_away():
    """Tell whether the embedded broker was taken away; whether RabbitMQ is there, its messages tell."""
    url = settings.FASTSTREAM["default"]["URL"]
    return urlsplit(url).scheme == "memory" and MemoryServer.get(url).is_stopped
