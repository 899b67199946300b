import os
import socket
import threading

import pytest

from faststream_django.worker.supervision import HURRY, STOP, inherited_supervision, variables


@pytest.fixture
def ends(monkeypatch):
    """Return the supervisor's end of the socket, and the supervision of this process."""
    ours, theirs = socket.socketpair()
    for name, value in variables(theirs, 2).items():
        monkeypatch.setenv(name, value)
    with ours, theirs:
        yield ours, inherited_supervision()
        ours.close()


class Heard:
    def __init__(self, supervision, count):
        self.words = []
        self._count = count
        self._enough = threading.Event()
        supervision.obey(self._hear, lambda: self._hear("hurry"))

    def _hear(self, word):
        self.words.append(word)
        if len(self.words) == self._count:
            self._enough.set()

    def wait(self):
        assert self._enough.wait(10)
        return self.words


def test_supervision_is_inherited_once(ends):
    _, supervision = ends

    assert supervision.number == 2
    assert not any("FASTSTREAM_DJANGO_WORKER" in name for name in os.environ)
    assert inherited_supervision() is None


def test_words_of_the_supervisor_and_its_end_are_heard(ends):
    ours, supervision = ends
    heard = Heard(supervision, 3)

    ours.send(STOP)
    ours.send(HURRY)
    ours.close()

    assert heard.wait() == ["the supervisor says so", "hurry", "the supervisor is gone"]


def test_connection_that_is_reset_is_an_end(ends):
    ours, supervision = ends
    supervision.report("what nobody reads before the end")
    heard = Heard(supervision, 1)

    ours.close()

    assert heard.wait() == ["the supervisor is gone"]


def test_report_reaches_the_supervisor(ends):
    ours, supervision = ends

    supervision.report("waiting for default")

    assert ours.recv(100) == b"waiting for default\n"


def test_supervisor_that_does_not_listen_holds_nothing_up(ends):
    ours, supervision = ends

    for _ in range(10_000):
        supervision.report("x" * 100)

    ours.close()
    supervision.report("nobody is there")
