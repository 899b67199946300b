import asyncio
import sys
import types

import pytest
from django.core.exceptions import SynchronousOnlyOperation

from faststream_django import (
    apublish,
    apublish_many,
    apublish_on_commit,
    publish,
    publish_many,
    publish_on_commit,
)
from faststream_django.loop.foreign_loops import foreign_loop
from tests.recording import recording


@pytest.fixture
def trio(monkeypatch):
    """What trio says in a task of its own; it is no dependency of the tests."""

    def current_task():
        if not trio.is_running:
            raise RuntimeError("must be called from async context")

    trio = types.ModuleType("trio")
    trio.is_running = True
    trio.lowlevel = types.SimpleNamespace(current_task=current_task)
    monkeypatch.setitem(sys.modules, "trio", trio)
    return trio


def step(coroutine):
    """Run a coroutine as trio does: with nothing of asyncio."""
    return coroutine.send(None)


def test_none_runs_where_none_is_imported():
    assert foreign_loop() is None


def test_trio_that_does_not_run_here_is_none(trio):
    trio.is_running = False

    assert foreign_loop() is None


def test_trio_that_is_being_imported_is_none(trio):
    del trio.lowlevel

    assert foreign_loop() is None


@pytest.mark.parametrize(
    ("verb", "message"), [(publish, "x"), (publish_many, ["x"]), (publish_on_commit, "x")]
)
def test_synchronous_verbs_do_not_block_trio(trio, verb, message):
    with (
        recording() as sent,
        pytest.raises(SynchronousOnlyOperation, match=rf"{verb.__name__}\(\) in a task of trio"),
    ):
        verb(message, "orders")

    assert not sent.sends


@pytest.mark.parametrize(
    ("verb", "message"), [(apublish, "x"), (apublish_many, ["x"]), (apublish_on_commit, "x")]
)
def test_asynchronous_verbs_refuse_trio_by_name(trio, verb, message):
    with recording() as sent, pytest.raises(RuntimeError, match="this one is of trio"):
        step(verb(message, "orders"))

    assert not sent.sends


def test_asyncio_goes_on_beside_trio(trio):
    """As in another thread than trio's."""
    trio.is_running = False

    with recording() as sent:
        asyncio.run(apublish("x", "orders"))

    assert len(sent.sends) == 1
