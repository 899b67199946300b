import asyncio
import gc
import threading
import uuid
from functools import partial

import pytest
from django.test import override_settings
from faststream import BaseMiddleware

from faststream_django import Message, brokers, publish
from faststream_django.backends.memory.server import MemoryServer
from faststream_django.conf import BrokerSettings
from faststream_django.connection import Connection
from faststream_django.exceptions import BrokerDoesNotExist, InvalidBroker, PublishError
from faststream_django.loop import loop_thread
from faststream_django.registry import Brokers
from tests.recording import recording

USED_IN_FORK = """
import os, django
django.setup()
from faststream_django import brokers

with_parent = brokers["default"]
pid = os.fork()
if pid == 0:
    os._exit(0 if brokers["default"] is with_parent else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture
def configure(settings):
    """Set FASTSTREAM, with an embedded broker of its own for each alias that gives no URL."""
    name = uuid.uuid4().hex

    def configure(**entries):
        settings.FASTSTREAM = {
            alias: {"URL": f"memory://{name}-{alias}", "QUEUES": ["orders"]} | entry
            for alias, entry in entries.items()
        }
        return settings.FASTSTREAM

    yield configure
    brokers.stop(1)


def test_aliases_are_those_of_the_settings(configure):
    configure(default={}, events={})

    assert list(brokers) == ["default", "events"]
    assert len(brokers) == 2
    assert "events" in brokers
    assert "missing" not in brokers


@pytest.mark.parametrize("odd", [None, 1, ("default",), ["default"]])
def test_odd_alias_is_not_among_them(configure, odd):
    configure(default={})

    assert odd not in brokers


def test_missing_settings_are_no_brokers(settings):
    del settings.FASTSTREAM

    assert list(brokers) == []
    with pytest.raises(BrokerDoesNotExist, match="missing"):
        brokers["default"]


def test_unknown_alias_is_refused_with_a_hint(configure):
    configure(default={}, events={})

    with pytest.raises(BrokerDoesNotExist, match=r"'event' \(did you mean 'events'\?\)"):
        brokers["event"]


def test_wrong_entry_is_refused_and_the_others_work(configure):
    configure(default={}, events={"QUEUE": []})

    with pytest.raises(InvalidBroker, match=r"FASTSTREAM\['events'\]"):
        brokers["events"]
    publish("x", "orders")


def test_alias_has_one_connection(configure):
    configure(default={}, events={})

    assert isinstance(brokers["default"], Connection)
    assert brokers["default"] is brokers["default"]
    assert brokers["default"] is not brokers["events"]


def test_threads_that_come_at_once_share_the_connection(configure):
    configure(default={})
    barrier, found = threading.Barrier(8), []

    def look():
        barrier.wait(10)
        found.append(brokers["default"])

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(connection) for connection in found}) == 1


def test_connection_shows_its_state_and_no_secret(configure):
    configure(default={"URL": "amqp://user:hunter2@localhost/"})

    assert repr(brokers["default"]) == "<Connection 'default': not connected>"


def test_changed_settings_make_a_new_connection_and_stop_the_old_one(configure):
    configure(default={})
    publish("x", "orders")
    old = brokers["default"]

    configure(default={"TIMEOUT": 3})
    publish("x", "orders")

    assert brokers["default"] is not old
    assert brokers["default"].settings.timeout == 3
    assert not old.is_connected


def test_changed_settings_are_noticed_on_the_loop_thread_too(configure):
    """As by a handler that the embedded broker runs."""
    configure(default={})
    publish("x", "orders")
    old = brokers["default"]

    async def look():
        return brokers["default"]

    configure(default={"TIMEOUT": 3})
    new = loop_thread.run(look, timeout=10)

    assert new is not old


def test_changed_settings_leave_other_aliases_alone(settings, configure):
    entries = configure(default={}, events={})
    events = brokers["events"]

    settings.FASTSTREAM = {**entries, "default": {**entries["default"], "TIMEOUT": 3}}
    brokers["default"]

    assert brokers["events"].settings == events.settings


def test_nothing_connects_before_it_is_needed(configure, counting_port):
    configure(default={"URL": counting_port.url})

    brokers["default"]

    assert counting_port.count == 0


def test_start_connects_in_the_background(configure, counting_port):
    configure(default={"URL": counting_port.url})

    brokers.start()

    counting_port.wait_for(1)
    assert not brokers["default"].is_connected


def test_start_takes_aliases(configure, counting_port, unreachable_port):
    other = f"amqp://guest:guest@127.0.0.1:{unreachable_port}/"
    configure(default={"URL": other}, events={"URL": counting_port.url})

    brokers.start("events")

    counting_port.wait_for(1)
    assert repr(brokers["default"]) == "<Connection 'default': not connected>"


def test_start_never_raises_because_a_broker_is_away(configure, unreachable_port):
    configure(default={"URL": f"amqp://guest:guest@127.0.0.1:{unreachable_port}/"})

    brokers.start()


def test_start_of_an_unknown_alias_is_refused(configure):
    configure(default={})

    with pytest.raises(BrokerDoesNotExist):
        brokers.start("missing")


def test_stopped_brokers_connect_again_with_the_next_message(configure):
    configure(default={})
    publish("1", "orders")
    first = brokers["default"]

    brokers.stop()
    publish("2", "orders")

    assert not first.is_connected
    assert brokers["default"] is not first
    assert brokers["default"].is_connected


def test_stop_without_connections_does_nothing(configure):
    Brokers().stop()


def test_stop_waits_for_what_is_in_flight(configure):
    entered, leave = threading.Event(), threading.Event()

    class Holding(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            entered.set()
            await asyncio.to_thread(leave.wait, 10)
            return await call_next(command)

    entries = configure(default={"OPTIONS": {"middlewares": [Holding]}})
    publishing = threading.Thread(target=publish, args=("held", "orders"))
    publishing.start()
    assert entered.wait(10)
    stopping = threading.Thread(target=brokers.stop)
    stopping.start()

    still_stopping = stopping.is_alive()
    leave.set()
    publishing.join()
    stopping.join()

    assert still_stopping
    assert MemoryServer.get(entries["default"]["URL"]).count("orders") == 1


def test_stop_that_runs_out_of_time_closes_the_connection_all_the_same(configure, rabbitmq):
    """A message that never ends must not keep a connection that nobody can reach any more."""
    entered, errors = threading.Event(), []

    class Hanging(BaseMiddleware):
        async def publish_scope(self, call_next, command):
            if command.body == b"held":
                entered.set()
                await asyncio.Event().wait()
            return await call_next(command)

    def hang():
        try:
            publish("held", "orders", timeout=8)
        except PublishError as error:
            errors.append(error)

    configure(default={"URL": rabbitmq.url(), "OPTIONS": {"middlewares": [Hanging]}})
    publish("connects", "orders")
    publishing = threading.Thread(target=hang)
    publishing.start()
    assert entered.wait(10)

    brokers.stop(0.2)
    left = rabbitmq.connections()
    publishing.join(4)  # at once, and not when its own time is over
    rabbitmq.delete_queue("orders")

    assert left == []
    assert len(errors) == 1


def test_backend_that_is_none_is_refused_by_name(configure):
    configure(default={"BACKEND": "uuid.UUID"})

    with pytest.raises(InvalidBroker, match=r"FASTSTREAM\['default'\]\['BACKEND'\].*uuid\.UUID"):
        publish("x", "orders")


def test_stand_in_gets_what_is_sent_while_the_context_lasts(configure):
    entries = configure(default={})

    with recording() as recorder:
        publish("kept", "orders")
    publish("sent", "orders")

    assert recorder.bodies == ["kept"]
    assert [m.decode() for m in MemoryServer.get(entries["default"]["URL"]).drain("orders")] == ["sent"]


def test_stand_in_holds_in_every_thread(configure):
    configure(default={})

    with recording() as recorder:
        thread = threading.Thread(target=publish, args=("kept", "orders"))
        thread.start()
        thread.join()

    assert recorder.bodies == ["kept"]


def test_innermost_stand_in_counts(configure):
    configure(default={})

    with recording() as outer:
        with recording() as inner:
            publish("inner", "orders")
        publish("outer", "orders")

    assert (outer.bodies, inner.bodies) == (["outer"], ["inner"])


def test_stand_in_is_gone_after_an_error(configure):
    configure(default={})

    with pytest.raises(LookupError), recording():
        raise LookupError

    assert isinstance(brokers["default"], Connection)


def test_unknown_alias_is_refused_behind_a_stand_in_too(configure):
    configure(default={})

    with recording(), pytest.raises(BrokerDoesNotExist):
        publish("x", "orders", broker="missing")


def test_connection_object_survives_a_fork(run_script):
    done = run_script(USED_IN_FORK)

    assert done.stdout == "0\n", done.stderr


def test_message_can_be_sent_through_the_connection_itself(configure):
    entries = configure(default={})

    brokers["default"].send(Message.encode("x", "orders"))

    assert MemoryServer.get(entries["default"]["URL"]).count("orders") == 1


def test_stop_ends_although_others_go_on_publishing(configure, monkeypatch):
    """They make new connections: as many as stop() could close, if it went on until there are none."""
    configure(default={})
    publish("x", "orders")
    stop, stopped = Connection.begin_stop, []

    def stop_while_others_publish(connection, timeout=None):
        stopped.append(connection)
        if len(stopped) < 20:
            publish("x", "orders")
        return stop(connection, timeout)

    monkeypatch.setattr(Connection, "begin_stop", stop_while_others_publish)
    brokers.stop(1)

    assert len(stopped) == 1


def test_stop_closes_all_connections_at_the_same_time(configure):
    """So that the time it may take does not grow with their number."""
    loop_thread.stop()
    aliases = [f"a{number}" for number in range(4)]
    configure(**{alias: {} for alias in aliases})
    barrier, closed = asyncio.Barrier(4), []

    async def settle_together(close, timeout):
        await barrier.wait()
        closed.append(close)

    for alias in aliases:
        publish("x", "orders", broker=alias)
        courier = brokers[alias]._courier
        courier.close = partial(settle_together, courier.close)

    brokers.stop(5)

    assert len(closed) == 4


def test_overridden_settings_are_not_kept():
    """A suite may override them in every test."""

    def override(number):
        name = f"a{number}"
        with override_settings(FASTSTREAM={name: {"URL": "memory://overridden"}}):
            assert not brokers[name].is_connected

    def count():
        gc.collect()
        return len([each for each in gc.get_objects() if type(each) in {BrokerSettings, Connection}])

    for number in range(20):
        override(number)
    before = count(), len(gc.get_objects())
    for number in range(20, 120):
        override(number)
    after = count(), len(gc.get_objects())
    brokers.stop(1)

    assert after[0] <= before[0]
    assert after[1] - before[1] < 100
