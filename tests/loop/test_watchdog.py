import asyncio
import re
import threading

import pytest

from faststream_django.loop import LoopStalled, watchdog
from faststream_django.loop import running as running_loop
from tests.loop.calling import LONG, SOON, double


@pytest.fixture(autouse=True)
def _short_cancel_timeout(monkeypatch):
    monkeypatch.setattr(running_loop, "CANCEL_TIMEOUT", 0.3)


@pytest.fixture
def _quick_watchdog(monkeypatch):
    monkeypatch.setattr(watchdog, "TOO_LONG", 0.1)
    monkeypatch.setattr(watchdog, "BEAT", 0.02)


def blockages(caplog):
    return [record.getMessage() for record in caplog.records if "has been blocked for" in record.getMessage()]


@pytest.mark.usefixtures("_quick_watchdog")
def test_a_blocked_loop_is_logged_once_with_its_lag_and_its_place(thread, blocked, caplog):
    for _ in range(2):
        with pytest.raises(LoopStalled):
            thread.run(double, 21, timeout=0.2)

    (text,) = blockages(caplog)
    assert 0.2 <= float(re.search(r"blocked for ([\d.]+) s", text)[1]) < SOON
    assert "release.wait(LONG)" in text


@pytest.mark.usefixtures("_quick_watchdog")
def test_a_call_that_blocks_the_loop_itself_is_logged(thread, caplog):
    async def middleware():
        await asyncio.sleep(0.5)
        release.wait(LONG)

    release = threading.Event()

    with pytest.raises(LoopStalled):
        thread.run(middleware, timeout=1.5)
    release.set()

    (text,) = blockages(caplog)
    assert 0.1 < float(re.search(r"blocked for ([\d.]+) s", text)[1]) < 1.5
    assert "release.wait(LONG)" in text


@pytest.mark.usefixtures("_quick_watchdog")
def test_the_next_blockage_is_logged_again(thread, caplog):
    async def block():
        release.wait(LONG)

    release = threading.Event()

    for _ in range(2):
        with pytest.raises(LoopStalled):
            thread.run(block, timeout=0.2)
        release.set()
        thread.run(double, 21, timeout=SOON)
        release.clear()

    assert len(blockages(caplog)) == 2


@pytest.mark.usefixtures("_quick_watchdog")
def test_a_loop_that_turns_is_not_logged_however_long_its_work_takes(thread, caplog, monkeypatch):
    monkeypatch.setattr(watchdog, "TOO_LONG", 1.0)

    with pytest.raises(LoopStalled):
        thread.run(asyncio.sleep, LONG, timeout=2.0)

    assert blockages(caplog) == []
