"""Relays in the admin: to look at."""

import pytest

from faststream_django.outbox.models import Lease
from tests.outbox.admin.conftest import text
from tests.outbox.stored import lead

pytestmark = pytest.mark.django_db

LIST = "/admin/faststream_outbox/lease/"


def test_list_names_the_leaders(login):
    client = login("view_lease")
    lead(holder="web-1:42", seen=3)
    lead(broker="events", holder="gone:1", seen=600, left=-500)
    Lease.objects.create(broker="new")

    page = text(client.get(LIST))

    assert "web-1:42" in page
    assert "gone:1" not in page
    assert page.count("no relay") == 2
    assert "10 min ago" in page


def test_one_relay_can_be_seen_and_nothing_else(operator):
    lease = lead(holder="web-1:42")

    assert "web-1:42" in text(operator.get(f"{LIST}default/change/"))
    assert operator.post(f"{LIST}default/change/", {"holder": "x"}).status_code == 403
    assert operator.get(f"{LIST}add/").status_code == 403
    assert operator.post(f"{LIST}default/delete/", {"post": "yes"}).status_code == 403
    lease.refresh_from_db()
    assert lease.holder == "web-1:42"


@pytest.mark.parametrize("permissions", [(), ("view_outboxmessage",), ("change_lease",)])
def test_relays_need_the_permission_to_view(login, permissions):
    assert login(*permissions).get(LIST).status_code == 403
