"""What the admin shows of dead letters, to whom, and what when the broker is away."""

import pytest
from django.contrib.auth.models import Permission

from tests.dead_letters.admin.conftest import LETTER, LIST, ORDERS, QUEUE, ask, said, text

pytestmark = pytest.mark.django_db

VIEW = "view_deadletter"
SECRET = "s3cret-marker"


def test_permissions_exist_without_a_table():
    codenames = Permission.objects.filter(content_type__app_label="faststream_dead_letters")

    assert set(codenames.values_list("codename", flat=True)) == {
        VIEW,
        "replay_deadletter",
        "discard_deadletter",
        "view_body",
    }


def test_index_leads_to_the_queues(operator, server):
    assert LIST in text(operator.get("/admin/"))
    assert f"{LIST}add/" not in text(operator.get("/admin/"))


def test_queues_are_counted(operator, bury):
    bury()
    bury("m-1")

    page = text(operator.get(LIST))

    assert f'<a href="{QUEUE}?broker=default&amp;queue=orders">orders</a>' in page
    assert 'letters-bad">2<' in page


def test_queue_shows_why_each_is_dead_and_neither_headers_nor_bodies(operator, bury):
    bury(body=SECRET.encode(), tenant=SECRET)
    bury("m-1", **{"faststream-reason": "invalid", "faststream-attempts": 0})

    page = text(operator.get(QUEUE, ORDERS))

    for shown in ("2 dead letters.", "m-0", "m-1", "failed", "invalid", "ValueError at shop"):
        assert shown in page
    assert SECRET not in page


def test_queue_shows_the_first_and_says_so(operator, bury):
    for number in range(60):
        bury(f"m-{number}")

    page = text(operator.get(QUEUE, ORDERS))

    assert "60 dead letters; these are the first 50." in page
    assert page.count('name="id"') == 50


def test_looking_takes_nothing_away(operator, bury, server):
    bury()
    bury("m-1")

    for url, data in ((LIST, {}), (QUEUE, ORDERS), (LETTER, {**ORDERS, "id": "m-1"})):
        assert operator.get(url, data).status_code == 200

    assert [each.message_id for each in server.drain("orders.dlq")] == ["m-0", "m-1"]


@pytest.mark.parametrize(
    "query", [{}, {"broker": "unknown", "queue": "orders"}, {"broker": "default"}, {"queue": "orders"}]
)
def test_what_does_not_exist_is_not_found(operator, server, query):
    assert operator.get(QUEUE, query).status_code == 404
    assert operator.get(LETTER, query).status_code == 404


def test_letter_is_shown_in_full_to_those_who_may_see_bodies(login, bury):
    bury(tenant="acme-7")

    page = text(login(VIEW, "view_body").get(LETTER, {**ORDERS, "id": "m-0"}))

    for shown in ("m-0", "ValueError at shop", "acme-7", "&quot;number&quot;: 1", "13 bytes"):
        assert shown in page


def test_letter_is_shown_without_headers_and_body_to_others(login, bury):
    bury(body=SECRET.encode(), tenant=SECRET)

    page = text(login(VIEW).get(LETTER, {**ORDERS, "id": "m-0"}))

    assert "ValueError at shop" in page
    assert "Can view the bodies and headers" in page
    assert SECRET not in page


def test_keys_that_the_settings_name_are_hidden(operator, bury, configure):
    configure(OUTBOX={"REDACT": ["token", "Tenant"]})
    bury(body=b'{"user": {"Token": "%s"}, "n": 17}' % SECRET.encode(), tenant=SECRET)

    page = text(operator.get(LETTER, {**ORDERS, "id": "m-0"}))

    assert SECRET not in page
    assert page.count("***") == 2
    assert "17" in page


def test_letter_that_is_gone_leads_back_to_its_queue(operator, server):
    response = operator.get(LETTER, {**ORDERS, "id": "m-0"})

    assert response.url == f"{QUEUE}?broker=default&queue=orders"
    assert "was not found" in said(response)[0]


def test_pages_need_the_permission_to_view(login, bury):
    bury()
    client = login("replay_deadletter", "discard_deadletter", "view_body")

    for url, data in ((LIST, {}), (QUEUE, ORDERS), (LETTER, {**ORDERS, "id": "m-0"})):
        assert client.get(url, data).status_code == 403
    assert ask(client, "discard", "m-0", confirmed="discard").status_code == 403


def test_pages_are_for_staff(client, server):
    for url in (LIST, QUEUE, LETTER):
        assert "/login/" in client.get(url, ORDERS).url


EVIL = "<script>alert(1)</script>"


def test_everything_is_escaped(operator, bury, server):
    bury(
        f"id{EVIL}",
        body=f'"{EVIL}"'.encode(),
        **{EVIL: EVIL, "faststream-error": EVIL, "faststream-reason": EVIL, "faststream-queue": EVIL},
    )

    pages = [
        operator.get(LIST),
        operator.get(QUEUE, ORDERS),
        operator.get(QUEUE, {"broker": "default", "queue": EVIL}),
        operator.get(LETTER, {**ORDERS, "id": f"id{EVIL}"}),
        ask(operator, "discard", f"id{EVIL}"),
    ]

    for page in pages:
        assert page.status_code == 200
        assert EVIL not in text(page)
    assert "alert(1)" in text(pages[1])


# What is wrong


def test_outage_is_told_on_every_page_without_the_url(operator, settings, unreachable_port):
    settings.FASTSTREAM = {
        "default": {
            "URL": f"amqp://shop:{SECRET}@127.0.0.1:{unreachable_port}/",
            "QUEUES": ["orders"],
            "CONNECT_TIMEOUT": 1.0,
        }
    }

    for url, data in ((LIST, {}), (QUEUE, ORDERS)):
        response = operator.get(url, data)
        assert response.status_code == 200
        assert "errornote" in text(response)
        assert "refused" in text(response).lower() or "connect" in text(response).lower()
        assert SECRET not in text(response)
    [problem] = said(operator.get(LETTER, {**ORDERS, "id": "m-0"}))
    assert SECRET not in problem
    *_, problem = said(ask(operator, "replay", "m-0", confirmed="replay"))
    assert SECRET not in problem


def test_embedded_broker_that_is_stopped_is_told(operator, server):
    server.stop()

    assert "was stopped" in text(operator.get(LIST))
    assert "was stopped" in text(operator.get(QUEUE, ORDERS))


def test_queue_without_a_place_for_dead_letters_is_told(operator, server):
    page = text(operator.get(QUEUE, {"broker": "default", "queue": "unknown"}))

    assert "there is no queue &#x27;unknown.dlq&#x27;" in page


def test_broker_whose_settings_are_wrong_is_left_out(operator, settings, server):
    settings.FASTSTREAM = {**settings.FASTSTREAM, "wrong": {"URL": "http://nowhere/"}}

    page = text(operator.get(LIST))

    assert "default" in page
    assert "wrong" not in page


def test_subscribers_that_cannot_be_imported_leave_what_the_settings_name(operator, bury, make_app):
    make_app("raise RuntimeError('broken')")
    bury()

    page = text(operator.get(LIST))

    assert "cannot be imported (RuntimeError)" in page
    assert ">orders</a>" in page


def test_site_without_brokers_has_a_page(operator, settings):
    settings.FASTSTREAM = {}

    assert "names no broker" in text(operator.get(LIST))
