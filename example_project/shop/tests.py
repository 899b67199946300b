"""Run by ``manage.py test``. No broker is needed: in a test run nothing leaves the process."""

from django.test import TestCase
from django.urls import reverse

from faststream_django.exceptions import BrokerUnavailable
from faststream_django.outbox.models import OutboxMessage
from faststream_django.testing import capture_messages

from .models import Order, Product


class OrderTests(TestCase):
    def order(self):
        product = Product.objects.earliest("pk")
        return self.client.post(reverse("place-order"), {"product": product.pk, "quantity": 2})

    @capture_messages()
    def test_an_order_is_announced(self, messages):
        self.order()

        order = Order.objects.get()
        messages.assert_published("orders.placed", body={"order": order.pk}, count=1)
        messages.assert_published(exchange="events", routing_key="stock.changed", count=1)

    @capture_messages()
    def test_a_declined_order_is_not_announced(self, messages):
        self.client.post(reverse("decline-order"))

        messages.assert_published(count=0)

    @capture_messages(fail_with=BrokerUnavailable)
    def test_an_order_waits_in_the_outbox_when_the_broker_is_away(self):
        with self.captureOnCommitCallbacks(execute=True):
            self.order()

        assert Order.objects.count() == 1
        assert OutboxMessage.objects.count() == 2
