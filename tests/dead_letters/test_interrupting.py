"""Signals while a command works."""

import os
import signal
import threading

from faststream_django.dead_letters.interrupting import signals_stop


def test_signals_call_and_are_as_before_afterwards():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    calls = []

    with signals_stop(lambda: calls.append(1)):
        for number in before:
            os.kill(os.getpid(), number)

    assert len(calls) == 3
    assert {number: signal.getsignal(number) for number in before} == before


def test_what_is_ignored_stays_ignored():
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    calls = []
    try:
        with signals_stop(lambda: calls.append(1)):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

    assert calls == []


def test_other_threads_leave_signals_alone():
    seen = []

    def work():
        before = signal.getsignal(signal.SIGTERM)
        with signals_stop(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [True]
