"""Replay and discard: for whom, of what, after which question, and in which log."""

import re

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.test import Client

from faststream_django.dead_letters.admin import acting
from tests.dead_letters.admin.conftest import LETTER, ORDERS, QUEUE, act, ask, said, text

pytestmark = pytest.mark.django_db

VIEW = "view_deadletter"


def left(server, queue="orders.dlq"):
    return [message.message_id for message in server.drain(queue)]


def test_replay_asks_first(operator, bury, server):
    bury("order-7")

    page = ask(operator, "replay", "order-7")

    assert page.status_code == 200
    assert "1 dead letter of orders." in text(page)
    assert "<li>order-7</li>" in text(page)
    assert left(server) == ["order-7"]
    assert not LogEntry.objects.exists()


def test_replay_moves_the_chosen_ones_back_and_logs(operator, bury, server):
    for number in range(4):
        bury(f"m-{number}")

    assert act(operator, "replay", "m-1", "m-3") == ["Replayed 2 of 4 dead letters of 'orders'."]

    assert (left(server, "orders"), left(server)) == (["m-1", "m-3"], ["m-0", "m-2"])
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.user.username) == (CHANGE, "operator")
    assert entry.object_repr == "Replayed 2 dead letters of orders (default)"
    assert entry.change_message == "Replay: m-1, m-3."


def test_discard_deletes_the_chosen_ones_and_logs(operator, bury, server):
    bury()
    bury("m-1")

    assert act(operator, "discard", "m-0") == ["Discarded 1 of 2 dead letters of 'orders'."]

    assert left(server) == ["m-1"]
    assert LogEntry.objects.get().action_flag == DELETION


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_all_are_those_that_were_there_when_it_was_asked(operator, bury, server, action):
    for number in range(3):
        bury(f"m-{number}")

    page = text(operator.get(QUEUE, ORDERS))
    up_to = re.search(r'name="up_to" value="(\d+)"', page)[1]
    question = text(ask(operator, action, up_to=up_to))
    bury("later")
    [told] = act(operator, action, up_to=up_to)

    assert "The first 3 dead letters of orders." in question
    assert told.endswith("3 of 4 dead letters of 'orders'.")
    assert left(server) == ["later"]
    assert LogEntry.objects.get().change_message.endswith(": the first 3.")


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ((VIEW,), []),
        ((VIEW, "view_body"), []),
        ((VIEW, "replay_deadletter"), ["replay"]),
        ((VIEW, "discard_deadletter"), ["discard"]),
        ((VIEW, "replay_deadletter", "discard_deadletter"), ["replay", "discard"]),
    ],
)
def test_each_action_needs_its_permission(login, bury, server, permissions, allowed):
    client = login(*permissions)
    bury()

    pages = [text(client.get(QUEUE, ORDERS)), text(client.get(LETTER, {**ORDERS, "id": "m-0"}))]

    for action in ("replay", "discard"):
        is_allowed = action in allowed
        assert all((f'value="{action}"' in page) == is_allowed for page in pages)
        if not is_allowed:
            assert ask(client, action, "m-0").status_code == 403
            assert ask(client, action, "m-0", confirmed=action).status_code == 403
            assert ask(client, action, up_to="1", confirmed=action).status_code == 403
    assert left(server) == ["m-0"]


def test_answer_to_one_question_is_none_to_the_other(operator, bury, server):
    bury()

    assert ask(operator, "discard", "m-0", confirmed="replay").status_code == 200
    assert left(server) == ["m-0"]


@pytest.mark.parametrize("fields", [{}, {"up_to": "0"}, {"up_to": "all"}, {"up_to": "-1"}])
def test_nothing_chosen_is_nothing_done(operator, bury, server, fields):
    bury()

    assert said(ask(operator, "discard", confirmed="discard", **fields)) == ["Choose dead letters first."]
    assert left(server) == ["m-0"]


def test_unknown_action_leads_back(operator, bury, server):
    bury()

    assert said(ask(operator, "explode", "m-0", confirmed="explode")) == []
    assert left(server) == ["m-0"]


def test_question_needs_the_token_of_the_form(operator, settings, bury, server):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    bury()

    assert ask(strict, "discard", "m-0", confirmed="discard").status_code == 403
    assert left(server) == ["m-0"]


def test_question_about_many_names_the_first(operator, bury):
    page = text(ask(operator, "discard", *(f"m-{number}" for number in range(25))))

    assert page.count("<li>") == 20
    assert "… and 5 more" in page
    assert page.count('name="id"') == 25


def test_what_could_not_be_done_is_told(operator, bury, server):
    bury(**{"faststream-queue": 7})
    bury("m-1")

    told = act(operator, "replay", "m-0", "m-1", "gone")

    assert told[0] == "Replayed 1 of 2 dead letters of 'orders'."
    assert told[1].startswith("m-0 was left alone: nothing in its headers names")
    assert told[2] == "gone is not among them"


def test_full_queue_is_told_and_nothing_is_lost(operator, bury, server):
    server.delete_queue(server.queue("orders"))
    server.declare_queue("orders", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for number in range(3):
        bury(f"m-{number}")

    told = act(operator, "replay", up_to="3")

    assert "full" in told[1]
    assert (left(server, "orders"), left(server)) == (["m-0"], ["m-1", "m-2"])


def test_long_work_stops_before_the_server_gives_up(operator, bury, server, monkeypatch):
    monkeypatch.setattr(acting, "TIMEOUT", 0.0)
    bury()

    told = act(operator, "replay", up_to="1")

    assert told[0] == "Replayed 0 of 1 dead letter of 'orders'."
    assert "Run it again to go on" in told[1]
    assert left(server) == ["m-0"]
