"""Who waits for a session hears what the nodes of the list say, and the log hears of each outage."""

import asyncio
import logging

import pytest

from faststream_django.backends.base import Backend, Session
from faststream_django.conf import BrokerSettings
from faststream_django.connection import supervisor
from faststream_django.connection.supervisor import Supervisor
from faststream_django.exceptions import BrokerRefused, BrokerUnavailable


class QuietSession(Session):
    def __init__(self):
        self.closed = asyncio.get_running_loop().create_future()

    def post(self, message, delivery, on_settled, *, more=False):
        raise NotImplementedError

    def withdraw(self, delivery):
        raise NotImplementedError

    async def close(self):
        self.abort("closed")


class ScriptedBackend(Backend):
    """Answers the attempts to connect as the script of each node says; the last answer is repeated."""

    def __init__(self, **scripts):
        super().__init__(BrokerSettings(urls=tuple(scripts), backend=""))
        self.scripts = {url: list(script) for url, script in scripts.items()}

    async def connect(self, url):
        script = self.scripts[url]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if answer is not None:
            raise answer
        return QuietSession()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(supervisor, "STABLE_AFTER", 0.0)


def run(scenario, **scripts):
    async def main():
        async with asyncio.timeout(10):
            return await scenario(Supervisor(ScriptedBackend(**scripts)))

    return asyncio.run(main())


async def asked(supervisor, patience=5.0):
    answer = asyncio.get_running_loop().create_future()
    supervisor.request_session(object(), patience, answer.set_result)
    return await answer


REFUSED, AWAY = BrokerRefused("ACCESS_REFUSED"), BrokerUnavailable("connection refused")


def test_node_that_refuses_is_no_refusal_while_another_takes_the_connection():
    async def scenario(supervisor):
        first = await asked(supervisor)
        first.abort("reset")
        return first, await asked(supervisor)

    sessions = run(scenario, one=[REFUSED], two=[None])

    assert [type(session) for session in sessions] == [QuietSession] * 2


def test_refusal_of_every_node_is_told():
    answer = run(asked, one=[REFUSED], two=[REFUSED])

    assert type(answer) is BrokerRefused


def test_refusal_of_one_node_while_the_other_is_away_may_still_heal():
    async def scenario(supervisor):
        return await asked(supervisor)

    assert type(run(scenario, one=[REFUSED], two=[AWAY, AWAY, None])) is QuietSession


@pytest.mark.parametrize(("patience", "is_told_at_once"), [(5.0, True), (4.0, True), (6.0, False)])
def test_one_caller_who_waited_in_vain_is_enough(patience, is_told_at_once):
    """The outage is as old as its first caller's time, or a moment younger: the next does not wait again."""

    async def scenario(supervisor):
        supervisor.request_session("first", 5.0, lambda _: None)
        while supervisor.outage is None or "last attempt" not in supervisor.outage:  # noqa: ASYNC110
            await asyncio.sleep(0)
        supervisor.waited_in_vain("first", 5.0)
        answer = asyncio.get_running_loop().create_future()
        supervisor.request_session("second", patience, answer.set_result)
        return answer.done()

    assert run(scenario, one=[AWAY]) is is_told_at_once


def test_session_ends_the_outage_that_was_waited_for():
    async def scenario(supervisor):
        supervisor.request_session("first", 5.0, lambda _: None)
        supervisor.waited_in_vain("first", 5.0)
        (await asked(supervisor, 6.0)).abort("reset")
        return await asked(supervisor)

    assert type(run(scenario, one=[AWAY, None])) is QuietSession


def states(caplog):
    return [
        word.removeprefix("state=")
        for record in caplog.records
        if record.name == "faststream_django.connection" and record.levelno >= logging.INFO
        for word in record.getMessage().split()
        if word.startswith("state=")
    ]


async def lose(supervisor, times):
    for _ in range(times):
        (await asked(supervisor)).abort("reset")
        await asyncio.sleep(0)
    await asked(supervisor)


def test_end_of_a_short_outage_is_logged(caplog):
    caplog.set_level(logging.INFO)

    run(lambda supervisor: lose(supervisor, 1), one=[None])

    assert states(caplog) == ["disconnected", "connected"]


def test_flapping_broker_is_logged_once(caplog):
    caplog.set_level(logging.INFO)

    run(lambda supervisor: lose(supervisor, 5), one=[None])

    assert states(caplog) == ["disconnected", "connected"]


def test_outage_that_began_too_early_for_its_line_is_logged_if_it_lasts(caplog, monkeypatch):
    caplog.set_level(logging.INFO)

    async def scenario(supervisor_here):
        await lose(supervisor_here, 1)
        (await asked(supervisor_here)).abort("reset")
        await asyncio.sleep(0.05)
        before = states(caplog)
        monkeypatch.setattr(supervisor, "LOG_INTERVAL", 0.0)
        while states(caplog) == before:  # noqa: ASYNC110 - the loop is the one that is tested
            await asyncio.sleep(0.01)
        return before

    before = run(scenario, one=[None, None, AWAY])

    assert before == ["disconnected", "connected"]
    assert states(caplog) == [*before, "unavailable"]


@pytest.mark.parametrize("is_always_wanted", [True, False])
def test_broker_is_asked_all_the_time_for_one_who_always_wants_it(monkeypatch, is_always_wanted):
    monkeypatch.setattr(supervisor, "PATIENCE", 0.01)
    attempts = []

    class CountingBackend(ScriptedBackend):
        async def connect(self, url):
            attempts.append(url)
            return await super().connect(url)

    async def main():
        made = Supervisor(CountingBackend(one=[AWAY]), is_always_wanted=is_always_wanted)
        made.start()
        await asyncio.sleep(0.5)
        await made.close()

    asyncio.run(main())

    assert (len(attempts) > 20) is is_always_wanted
