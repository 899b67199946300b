"""Retry and discard: for whom, of what, after which question, and in which log."""

import re

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.messages import get_messages

from faststream_django.outbox.admin import acting, listing
from faststream_django.outbox.models import OutboxMessage, State
from tests.outbox.admin.conftest import LIST, detail, text
from tests.outbox.stored import store

pytestmark = pytest.mark.django_db(databases=["default", "other"])

VIEW = "view_outboxmessage"


def ask(client, action, *rows, query="", **more):
    data = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    return client.post(f"{LIST}{query}", data)


def act(client, action, *rows, query="", **more):
    """Ask, and answer with the form that the question brings; return what was said."""
    page = ask(client, action, *rows, query=query, **more)
    if page.status_code == 302:
        return said(page)
    form = text(page).rpartition("<form")[2]
    data = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form):
        data.setdefault(name, []).append(value)
    assert data["confirmed"] == [action]
    return said(client.post(f"{LIST}{query}", data))


def said(response):
    assert response.status_code == 302
    return [str(message) for message in get_messages(response.wsgi_request)]


def states():
    return list(OutboxMessage.objects.order_by("pk").values_list("state", flat=True))


def test_retry_asks_first(operator):
    row = store(state=State.DEAD, message_id="order-7", attempts=10)

    page = ask(operator, "retry", row)

    assert page.status_code == 200
    assert "order-7" in text(page)
    assert "1 message." in text(page)
    assert states() == [State.DEAD]


def test_retry_sends_dead_ones_again_and_leaves_the_others(operator):
    rows = [store(state=state, attempts=10) for state in (State.DEAD, State.HOLDING, State.READY)]

    assert act(operator, "retry", *rows) == ["2 messages will be sent again."]

    assert states() == [State.WAITING, State.WAITING, State.READY]
    entries = LogEntry.objects.all()
    assert {each.object_id for each in entries} == {str(rows[0].pk), str(rows[1].pk)}
    assert {(each.action_flag, each.user.username) for each in entries} == {(CHANGE, "operator")}


def test_discard_asks_deletes_and_logs(operator):
    row = store(message_id="order-7")
    kept = store()

    assert ask(operator, "discard", row).status_code == 200
    assert OutboxMessage.objects.count() == 2
    assert act(operator, "discard", row) == ["1 message deleted."]

    assert OutboxMessage.objects.get() == kept
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_repr, entry.object_id) == (DELETION, "order-7", str(row.pk))


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ((VIEW,), []),
        ((VIEW, "view_body"), []),
        ((VIEW, "change_outboxmessage"), ["retry"]),
        (("change_outboxmessage",), ["retry"]),
        ((VIEW, "delete_outboxmessage"), ["discard"]),
        ((VIEW, "change_outboxmessage", "delete_outboxmessage"), ["retry", "discard"]),
    ],
)
def test_each_action_needs_its_permission(login, permissions, allowed):
    client = login(*permissions)
    row = store(state=State.DEAD)

    offered, buttons = text(client.get(LIST)), text(client.get(detail(row)))

    for action, label in (("retry", "Retry"), ("discard", "Discard")):
        is_allowed = action in allowed
        assert (f'<option value="{action}"' in offered) == is_allowed
        assert (f">{label}</button>" in buttons) == is_allowed
        if not is_allowed:
            ask(client, action, row, confirmed=action)
            ask(client, action, row, confirmed=action, select_across="1")
    assert states() == [State.DEAD]
    assert not LogEntry.objects.exists()


def test_nobody_acts_who_may_not_see(login):
    client = login("delete_outboxmessage")
    row = store(state=State.DEAD)

    assert ask(client, "discard", row, confirmed="discard").status_code == 403
    assert states() == [State.DEAD]


def test_answer_to_one_question_is_none_to_the_other(operator):
    row = store(state=State.DEAD)

    assert ask(operator, "discard", row, confirmed="retry").status_code == 200
    assert states() == [State.DEAD]


def test_question_needs_the_token_of_the_form(operator, settings, client):
    from django.test import Client

    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    row = store(state=State.DEAD)

    assert ask(strict, "discard", row, confirmed="discard").status_code == 403
    assert states() == [State.DEAD]


def test_what_is_gone_or_alive_is_not_asked_about(operator):
    ready, gone = store(), store(state=State.DEAD)
    OutboxMessage.objects.filter(pk=gone.pk).delete()

    assert said(ask(operator, "retry", ready, gone)) == ["None of these messages is dead, or they are gone."]
    assert said(ask(operator, "discard", gone))[-1] == acting._NONE[False]


def test_all_of_a_list_are_those_that_its_filter_means(operator):
    dead = [store(state=State.DEAD) for _ in range(3)]
    store(state=State.DEAD, routing_key="mails")
    store()

    query = "?state=dead&queue=orders"
    assert "3 messages." in text(ask(operator, "discard", dead[0], query=query, select_across="1"))
    assert act(operator, "discard", dead[0], query=query, select_across="1") == ["3 messages deleted."]

    assert OutboxMessage.objects.count() == 2
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.object_repr) == (None, "3 messages deleted")
    assert "queue=orders" in entry.change_message


@pytest.mark.parametrize(("query", "count"), [("", 2), ("?state=dead", 2), ("?state=ready", 0)])
def test_retry_of_all_of_a_list_takes_the_dead_ones(operator, query, count):
    rows = [store(state=state) for state in (State.DEAD, State.HOLDING, State.READY)]

    told = act(operator, "retry", rows[0], query=query, select_across="1")

    expected = f"{count} messages will be sent again." if count else acting._NONE[True]
    assert told == [expected]


def test_what_is_stored_after_the_question_is_not_meant(operator):
    row = store()
    page = text(ask(operator, "discard", row, select_across="1"))
    up_to = re.search(r'name="up_to" value="(\d+)"', page)[1]
    later = store()

    ask(operator, "discard", row, select_across="1", confirmed="discard", up_to=up_to)

    assert OutboxMessage.objects.get() == later


def test_question_about_many_names_the_first(operator, monkeypatch):
    rows = [store() for _ in range(25)]
    page = text(ask(operator, "discard", *rows))
    assert "… and 5 more" in page
    assert page.count('name="_selected_action"') == 25

    monkeypatch.setattr(listing, "MOST", 23)
    monkeypatch.setattr(acting, "MOST", 23)
    page = text(ask(operator, "discard", rows[0], select_across="1"))
    assert "23+ messages." in page
    assert "has time" in page


def test_retry_is_for_the_database_that_is_written(operator, settings):
    class Router:
        def db_for_read(self, model, **hints):
            return "other" if model is OutboxMessage else None

        db_for_write = db_for_read

    row = store("other", state=State.DEAD)
    settings.DATABASE_ROUTERS = [Router()]

    assert act(operator, "retry", row) == ["1 message will be sent again."]
    assert OutboxMessage.objects.using("other").get().state == State.WAITING
