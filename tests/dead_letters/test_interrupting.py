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


def test_program_that_ends_is_not_killed_by_a_signal_that_follows():
    before = (
        signal.getsignal(signal.SIGTERM),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGHUP),
    )
    try:
        with signals_stop(lambda: None, is_program=True):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)


def test_program_that_ends_by_itself_leaves_signals_as_they_were():
    before = signal.getsignal(signal.SIGTERM)

    with signals_stop(lambda: None, is_program=True):
        pass

    assert signal.getsignal(signal.SIGTERM) == before


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
