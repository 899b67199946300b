"""What the admin shows of messages, to whom, and how much of it."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from faststream_django.outbox.admin import listing
from faststream_django.outbox.models import OutboxMessage, State
from tests.outbox.admin.conftest import LIST, detail, listed, text
from tests.outbox.stored import lead, store

pytestmark = pytest.mark.django_db(databases=["default", "other"])

HOUR = 3600.0
SECRET = '{"token": "s3cret"}'
HEADERS = json.dumps(
    {"correlation_id": "c-1", "content_type": "application/json", "headers": {"tenant": "acme-7"}}
)


def test_list_shows_what_decides(operator):
    store(message_id="order-7", state=State.RETRYING, ordering_key="o-7", attempts=3, age=7500, due_in=200)
    store(message_id="event-1", state=State.HOLDING, exchange="events", routing_key="order.placed")

    page = text(operator.get(LIST))

    for shown in ("order-7", "o-7", "2 h 5 min", "in 3 min", "first of its key", "holds its key", "events →"):
        assert shown in page


def test_newest_is_first_and_pages_follow(operator, monkeypatch):
    rows = [store(message_id=f"m-{n}") for n in range(105)]
    names = [row.message_id for row in reversed(rows)]

    assert listed(operator.get(LIST)) == names[:100]
    assert listed(operator.get(LIST, {"p": 2})) == names[100:]
    assert operator.get(LIST, {"p": 3}).url == f"{LIST}?e=1"
    assert operator.get(LIST, {"p": 0}).status_code == 302


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["event", "wait", "mail", "dead", "old"]),
        ({"state": "ready"}, ["event", "mail", "old"]),
        ({"state": "waiting"}, ["wait"]),
        ({"state": "dead"}, ["dead"]),
        ({"state": "dead", "broker": "events"}, []),
        ({"queue": "mails"}, ["mail"]),
        ({"broker": "events"}, ["event"]),
        ({"older_than": "1h"}, ["dead", "old"]),
        ({"older_than": "7d"}, []),
        ({"q": "ol"}, ["old"]),
        ({"q": " event "}, ["event"]),
        ({"q": "ld"}, []),
        ({"q": "e", "state": "waiting"}, []),
        # What the filters do not know is as good as nothing.
        ({"state": "lost"}, ["event", "wait", "mail", "dead", "old"]),
        ({"older_than": "soon"}, ["event", "wait", "mail", "dead", "old"]),
    ],
)
def test_list_is_narrowed(operator, query, names):
    store(message_id="old", age=2 * HOUR)
    store(message_id="dead", age=2 * HOUR, state=State.HOLDING)
    store(message_id="mail", routing_key="mails")
    store(message_id="wait", state=State.WAITING, due_in=60)
    store(message_id="event", broker="events")

    assert listed(operator.get(LIST, query)) == names


def test_filter_by_queue_offers_what_is_there_and_keeps_the_others(operator):
    store(routing_key="mails")

    page = text(operator.get(LIST, {"state": "ready", "queue": 'x"y'}))

    assert '<option value="mails">' in page
    assert '<input type="hidden" name="state" value="ready">' in page
    assert 'value="x&quot;y"' in page


def test_header_counts_and_names_the_relay(operator):
    for state in (State.READY, State.WAITING, State.DEAD, State.DEAD):
        store(state=state, age=2 * HOUR, due_in=60)
    lead(holder="web-1:42", seen=3)
    lead(broker="events", seen=600, left=-500)

    page = text(operator.get(LIST))

    assert '<a href="?broker=default&amp;state=ready">1</a>' in page
    assert '<a href="?broker=default&amp;state=waiting">1</a>' in page
    assert '<a href="?broker=default&amp;state=dead">2</a>' in page
    assert "for 2 h" in page
    assert "web-1:42" in page
    assert "no relay" in page
    assert "last seen 10 min ago" in page


def test_counts_stop_at_what_can_be_paged_through(operator, monkeypatch):
    monkeypatch.setattr(listing, "MOST", 3)
    monkeypatch.setattr("faststream_django.outbox.admin.messages.MOST", 3)
    for _ in range(5):
        store(state=State.DEAD)

    page = text(operator.get(LIST))

    assert '&amp;state=dead">3+</a>' in page
    assert "3+ outbox messages" in page


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "query", [{}, {"state": "dead"}, {"state": "dead", "broker": "default"}, {"q": "abc"}, {"p": "2"}]
)
def test_list_of_a_big_table_reads_ranges_of_an_index(operator, query):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO faststream_outbox (broker, state, ordering_key, message_id, exchange, routing_key, "
            "body, properties, created_at, attempts, last_error) SELECT 'default', (n > 1000)::int * 3, '', "
            "gen_random_uuid(), '', 'orders', '', '{}', 0, 0, '' FROM generate_series(1, 20000) n"
        )
        cursor.execute("ANALYZE faststream_outbox")

    with CaptureQueriesContext(connection) as queries:
        assert operator.get(LIST, query).status_code == 200

    asked = [each["sql"] for each in queries if '"faststream_outbox"' in each["sql"]]
    assert asked
    for query in asked:
        assert '"body"' not in query
        assert "LIMIT" in query or " IN (" in query, query
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "Seq Scan" not in plan, f"{query}\n{plan}"


def test_number_of_queries_does_not_grow_with_the_rows(operator):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            operator.get(LIST)
        return len(captured)

    store()
    queries()
    few = queries()
    for _ in range(50):
        store()

    assert queries() == few


# Permissions, one by one.


@pytest.mark.parametrize("permissions", [(), ("delete_outboxmessage",), ("view_body",), ("view_lease",)])
def test_list_and_detail_need_the_permission_to_view(login, permissions):
    client = login(*permissions)
    row = store()

    assert client.get(LIST).status_code == 403
    assert client.get(detail(row)).status_code == 403
    assert client.get(f"{LIST}{row.pk}/history/").status_code == 403


@pytest.mark.parametrize("permission", ["view_outboxmessage", "change_outboxmessage"])
def test_who_may_view_or_change_sees_all_but_headers_and_body(login, permission):
    client = login(permission)
    row = store(body=SECRET.encode(), properties=HEADERS, message_id="order-7", last_error="unroutable")

    with CaptureQueriesContext(connection) as queries:
        page = text(client.get(detail(row)))

    assert "order-7" in page
    assert "unroutable" in page
    assert "c-1" in page
    assert "s3cret" not in page
    assert "acme-7" not in page
    assert "Can view the bodies and headers" in page
    assert not any('"body"' in each["sql"] for each in queries)
    assert "s3cret" not in text(client.get(LIST))


def test_who_may_view_bodies_sees_headers_and_body(login):
    row = store(body=SECRET.encode(), properties=HEADERS)

    page = text(login("view_outboxmessage", "view_body").get(detail(row)))

    assert "s3cret" in page
    assert "acme-7" in page
    assert "19 bytes" in page


def test_nobody_adds_changes_or_deletes(operator):
    row = store(message_id="order-7")

    assert operator.get(f"{LIST}add/").status_code == 403
    assert operator.post(detail(row), {"message_id": "other"}).status_code == 403
    assert operator.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in text(operator.get(LIST))
    assert OutboxMessage.objects.get().message_id == "order-7"


@pytest.mark.parametrize(
    "query", ["body__contains=s3", "properties__contains=acme", "last_error__startswith=x", "id__gt=0"]
)
def test_list_cannot_be_asked_for_what_it_does_not_show(login, query):
    store(body=SECRET.encode(), properties=HEADERS)

    assert login("view_outboxmessage").get(f"{LIST}?{query}").status_code == 400


def test_search_looks_at_nothing_but_the_id(login):
    store(body=SECRET.encode(), properties=HEADERS, last_error="acme-7")

    client = login("view_outboxmessage", "view_body")

    assert listed(client.get(LIST, {"q": "s3cret"})) == []
    assert listed(client.get(LIST, {"q": "acme-7"})) == []


# What is shown, and what is not.


def test_keys_that_the_settings_name_are_hidden(operator, outbox):
    outbox(OUTBOX={"REDACT": ["token", "Tenant"]})
    row = store(body=b'{"user": {"Token": "s3cret"}, "n": 17}', properties=HEADERS)

    page = text(operator.get(detail(row)))

    assert "s3cret" not in page
    assert "acme-7" not in page
    assert page.count("***") == 2
    assert "17" in page


def test_body_of_a_broker_that_is_gone_is_not_shown(operator):
    row = store(broker="gone", body=SECRET.encode(), properties=HEADERS)

    page = text(operator.get(detail(row)))

    assert "s3cret" not in page
    assert "acme-7" not in page
    assert "wrong or gone" in page


EVIL = "<script>alert(1)</script>"


def test_everything_is_escaped(operator, outbox):
    row = store(
        message_id=f"id{EVIL}",
        exchange=f"ex{EVIL}",
        routing_key=f"key{EVIL}",
        ordering_key=f"order{EVIL}",
        broker="default",
        body=f'"{EVIL}"'.encode(),
        properties=json.dumps({"message_type": EVIL, "headers": {EVIL: EVIL}}),
        last_error=EVIL,
        state=State.DEAD,
    )
    store(broker=f"b{EVIL}")
    lead(holder=EVIL)

    pages = [
        operator.get(LIST),
        operator.get(LIST, {"queue": EVIL, "q": EVIL, "broker": EVIL}),
        operator.get(detail(row)),
        operator.post(LIST, {"action": "discard", "_selected_action": row.pk}),
        operator.get("/admin/faststream_outbox/lease/"),
    ]

    for page in pages:
        assert page.status_code == 200
        assert EVIL not in text(page)
        assert "alert(1)" in text(page)


def test_body_that_is_no_text_is_hex(operator):
    page = text(operator.get(detail(store(body=b"\x00\xff\x10"))))

    assert "00ff 10" in page
    assert "3 bytes" in page


def test_big_body_is_cut(operator):
    page = operator.get(detail(store(body=b"x" * 1_000_000)))

    assert len(page.content) < 100_000
    assert "1,000,000 characters in all" in text(page)


@pytest.mark.parametrize("properties", ["no json", "[]", '{"headers": {"~": "unknown"}}', "{}"])
def test_properties_that_cannot_be_read_are_no_error(operator, properties):
    assert operator.get(detail(store(properties=properties))).status_code == 200


@pytest.mark.parametrize("row_id", ["9999999", "abc", str(10**30)])
def test_message_that_is_gone_leads_back_to_the_index(operator, row_id):
    assert operator.get(f"{LIST}{row_id}/change/").status_code == 302


def test_moments_of_a_message_are_shown_in_full(operator):
    row = store(state=State.WAITING, age=2 * HOUR, due_in=HOUR)

    page = text(operator.get(detail(row)))

    assert "2 h ago" in page
    assert "in 59 min" in page


def test_admin_shows_the_database_that_the_router_reads_from(operator, settings):
    class Router:
        def db_for_read(self, model, **hints):
            return "other" if model is OutboxMessage else None

    store("other", message_id="there")
    store(message_id="here")
    settings.DATABASE_ROUTERS = [Router()]

    assert listed(operator.get(LIST)) == ["there"]
